"""All that a GPU is measured by, in one command with a time limit: `python -m benchmarks.gpu --minutes 8 --out DIR`.

It needs `nire/` and torch, and says what else a step needs. Every step is a process of its own that is killed at its
limit; what it had found by then is kept.
"""
