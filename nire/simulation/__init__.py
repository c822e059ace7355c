"""Scenes of known light, and the frames and events that a camera would make of them."""
