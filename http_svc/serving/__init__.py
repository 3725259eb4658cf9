"""The HTTP server, and what stands around every request."""
