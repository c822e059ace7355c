"""The preview page: a browser's view of any running stream, by its address."""
