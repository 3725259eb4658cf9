"""Pictures on their way into the store."""
