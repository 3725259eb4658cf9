"""The work of `lensmesh ingest`: read files, send them, remember what is stored, remove items of deleted files."""
