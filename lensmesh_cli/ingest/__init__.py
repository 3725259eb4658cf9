"""What `lensmesh ingest` does: reads files, sends them, remembers what is stored, and removes what is gone."""
