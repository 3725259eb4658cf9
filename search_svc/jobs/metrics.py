"""Metrics of the jobs that this replica works on."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry

from lensmesh_chassis.telemetry.loop_metrics import Counter, Gauge, Histogram

OUTCOMES = ("succeeded", "failed", "cancelled", "handed_back", "lost")
_SECONDS = (0.1, 0.5, 1, 5, 15, 60, 300, 900, 3_600, 14_400, 86_400)


class JobMetrics:
    """Counts of jobs. Labels are this code's kinds and outcomes, no caller's word."""

    def __init__(self, registry: CollectorRegistry, kinds: Iterable[str]) -> None:
        self._attempts = Counter(
            "lensmesh_job_attempts_total",
            "Attempts at jobs that ended here. Outcomes: succeeded, failed, cancelled; handed_back where this replica "
            "ended, lost where another one took the job.",
            ("kind", "outcome"),
            registry=registry,
        )
        self._running = Gauge("lensmesh_jobs_running", "Jobs that this replica works on.", ("kind",), registry=registry)
        self._seconds = Histogram(
            "lensmesh_job_attempt_seconds",
            "Time that this replica worked on a job, whatever came of it.",
            ("kind",),
            buckets=_SECONDS,
            registry=registry,
        )
        for kind in kinds:
            # There from the start, so that the first one is seen as an increase.
            self._running.labels(kind)
            self._seconds.labels(kind)
            for outcome in OUTCOMES:
                self._attempts.labels(kind, outcome)

    def begin(self, kind: str) -> None:
        """Count a job that is taken up."""
        self._running.labels(kind).inc()

    def end(self, kind: str, outcome: str, seconds: float) -> None:
        """Count an attempt that ended."""
        self._running.labels(kind).dec()
        self._attempts.labels(kind, outcome).inc()
        self._seconds.labels(kind).observe(seconds)
