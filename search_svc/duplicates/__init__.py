"""Groups of images that look the same: a whole collection's hashes compared in memory, beside the event loop."""
