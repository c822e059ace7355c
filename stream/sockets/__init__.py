"""What leaves over ZeroMQ and what is asked there: wire format, publisher, subscriber, control, keys."""
