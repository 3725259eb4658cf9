"""The store on Qdrant: a server, or the client's local mode. Nothing is imported here: only who uses it pays for it."""
