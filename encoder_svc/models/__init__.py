"""Models: open_clip on its backends, and the mock."""
