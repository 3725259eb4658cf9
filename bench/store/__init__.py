"""Subject of `bench.stores`: a drawn collection, filled and indexed, and the kinds of searches in it."""
