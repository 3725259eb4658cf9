"""The service process: its life, its listeners, its health, its share of the machine, and how it ends."""
