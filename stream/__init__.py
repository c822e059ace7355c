"""Rings, processes and sockets: what carries packets from a source to exposed frames on the wire."""
