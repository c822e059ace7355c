"""Packets in any interleaving become the same windows. Pure."""
