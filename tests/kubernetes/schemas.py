"""Which schemas manifests are held against."""

VERSION = "1.36"
"""That of the API server of the other tests."""
CUSTOM = {"Certificate", "Issuer", "PodMonitor", "PrometheusRule", "ScaledObject"}
"""Their definitions are the API server's to check."""
