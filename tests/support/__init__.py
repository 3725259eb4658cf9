"""What tests of several folders use: real programs and meshes, stand-ins, and waiting for a state."""
