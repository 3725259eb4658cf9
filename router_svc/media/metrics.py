"""Counts images on their way into the media store."""

from prometheus_client import CollectorRegistry

from lensmesh_chassis.telemetry.loop_metrics import Counter, Gauge
from router_svc.media.forms import KeptForm

OUTCOMES = ("written", "failed", "dropped")


class MediaMetrics:
    """All writes of one router."""

    def __init__(self, registry: CollectorRegistry) -> None:
        writes = Counter(
            "lensmesh_media_writes_total",
            "Images on their way into the media store, by form: written, failed (a try, which is made again), dropped "
            "(no room to wait: made up when the image is ingested again).",
            ("form", "outcome"),
            registry=registry,
        )
        self._writes = {(form, outcome): writes.labels(form, outcome) for form in KeptForm for outcome in OUTCOMES}
        self._waiting = Gauge(
            "lensmesh_media_waiting_bytes", "Bytes of images that wait for the media store.", (), registry=registry
        ).labels()

    def count(self, form: KeptForm, outcome: str) -> None:
        """Count one image."""
        self._writes[form, outcome].inc()

    def waiting(self, held_bytes: int) -> None:
        """Tell how many bytes wait now."""
        self._waiting.value = held_bytes
