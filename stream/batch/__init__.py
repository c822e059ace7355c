"""Many recordings as one piece of work: which they are, and the workers that re-expose them."""
