"""Methods of re-exposure, a file each: `create(geometry, device, **settings) -> Reconstructor`."""
