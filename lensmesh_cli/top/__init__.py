"""Live figures of a mesh: their source, their computation and their display."""
