"""The REST face of the front door."""
