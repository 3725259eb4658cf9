"""What computes a model's towers: torch everywhere, OpenVINO on CPUs where it is installed and wins."""
