"""Prophesee's encodings and files, for the RAW and the DAT driver."""
