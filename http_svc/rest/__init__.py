"""The plain REST face, /v1."""
