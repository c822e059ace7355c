"""Processes: producer, consumer, recorder, preview page, and the supervisor that starts, watches and ends them."""
