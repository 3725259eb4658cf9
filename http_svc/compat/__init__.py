"""The addresses of other systems, for clients that know those: each answers as its own system does."""
