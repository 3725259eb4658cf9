"""SearchService: collections of items that are found by their vectors, captions and metadata."""
