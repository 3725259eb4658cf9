"""An embedded PostgreSQL that only the mesh's own user reaches."""
