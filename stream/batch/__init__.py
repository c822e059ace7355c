"""Many recordings as one piece of work: which they are, and the processes that re-expose them."""
