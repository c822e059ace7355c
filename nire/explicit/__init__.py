"""The explicit content: planes of light at key times, cleaned by a network once; every shutter is then physics."""
