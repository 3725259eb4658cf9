"""Images of requests: read from messages, or fetched by address."""
