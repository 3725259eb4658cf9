"""The front door: the mesh by HTTP, for programs and people that do not speak gRPC."""
