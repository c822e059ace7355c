"""Packets in, exposed frames out: what is asked, of which window, and what gives way under load. Pure."""
