"""Live figures of a mesh: where they come from, what is made of them, how they are shown."""
