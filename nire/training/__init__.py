"""Training and evaluation of the network on rendered scenes: run `python -m nire.training` (docs/training.md)."""
