"""What several drivers need of vendors' SDKs, and of the USB bus."""
