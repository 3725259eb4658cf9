"""The contracts by the Connect protocol, made from their descriptors."""
