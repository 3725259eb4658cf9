"""Images on their way into the store."""
