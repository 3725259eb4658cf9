"""A whole mesh on this machine: its processes, its database, Jaeger, and an Envoy beside each service."""
