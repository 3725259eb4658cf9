"""The backends that compute a model's towers: torch everywhere, OpenVINO on CPUs where it is installed and faster."""
