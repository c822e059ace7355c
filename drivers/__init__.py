"""One file, one source: every camera and every recording format is a module of this package."""
