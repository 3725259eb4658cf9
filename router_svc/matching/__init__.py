"""MatchImages: the entry of a collection that an image shows, or that it shows none."""
