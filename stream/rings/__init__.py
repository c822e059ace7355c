"""Rings in shared memory: packets from one writer to any number of readers."""
