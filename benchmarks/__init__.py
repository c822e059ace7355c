"""Measurements of speed and memory, behind `nire-live bench`; tests assert no absolute times, this prints them."""
