"""Export of spans to a collector, with one log line when it fails."""

import logging
import threading
import time
from collections.abc import Sequence

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from lensmesh_chassis.telemetry.logging import get_logger

_log = get_logger(__name__)

# They tell of every attempt to send.
_CHATTY = ("opentelemetry.exporter.otlp.proto.grpc.exporter", "opentelemetry.sdk.trace.export")
# It tells, by a line that begins so, of every span that found no room in the queue.
_QUEUE = "opentelemetry.sdk._shared_internal"
_QUEUE_FULL = "Queue full"
# A collector that was too slow and then kept up for so long is told of again, in seconds.
_QUIET_SECONDS = 60.0


class DroppedSpanCounter(logging.Filter):
    """Log filter that counts spans for which the queue had no room, by the SDK's lines about them, and drops the lines.

    It is a filter because the SDK tells of it nowhere else.
    """

    def __init__(self) -> None:
        super().__init__()
        # Spans end in any thread.
        self._lock = threading.Lock()
        self._count = 0

    def filter(self, record: logging.LogRecord) -> bool:
        if str(record.msg).startswith(_QUEUE_FULL):
            with self._lock:
                self._count += 1
        return False

    def take(self) -> int:
        """Return how many were dropped since the last call."""
        with self._lock:
            count, self._count = self._count, 0
        return count


class OutageLoggingExporter(SpanExporter):
    """Wrapper of another exporter. It logs once when the collector goes away and once when it comes back.

    Of a collector that answers too late for all spans it logs once, and again after a time in which the collector kept
    up.
    """

    def __init__(self, exporter: SpanExporter, where: str, dropped: DroppedSpanCounter | None = None) -> None:
        self._exporter, self._where = exporter, where
        self._dropped = dropped or DroppedSpanCounter()
        self._dropped_at: float | None = None
        self._lost = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        # Told here, where it is known whether the collector is slow or away, and not by the call whose span it was.
        dropped = self._dropped.take()
        if result is SpanExportResult.SUCCESS:
            if self._lost:
                _log.info("traces reach their collector again", collector=self._where, lost_spans=self._lost + dropped)
            elif dropped:
                self._tell_of_a_slow_one(dropped)
            self._lost = 0
            return result
        if not self._lost:
            _log.warning(
                "traces do not reach their collector: spans are dropped until it answers, calls go on",
                collector=self._where,
                setting="OTEL_EXPORTER_OTLP_ENDPOINT",
            )
        self._lost += len(spans) + dropped
        return result

    def _tell_of_a_slow_one(self, dropped: int) -> None:
        now = time.monotonic()
        if self._dropped_at is None or now - self._dropped_at >= _QUIET_SECONDS:
            _log.warning(
                "traces come faster than their collector takes them: some spans are dropped, calls go on",
                collector=self._where,
                dropped_spans=dropped,
                setting="OTEL_BSP_MAX_QUEUE_SIZE",
            )
        self._dropped_at = now

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def quieten() -> DroppedSpanCounter:
    """Keep the exporter's own lines out of the log, and count the spans it drops: `OutageLoggingExporter` logs both."""
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    queue, dropped = logging.getLogger(_QUEUE), DroppedSpanCounter()
    queue.setLevel(logging.WARNING)
    # First: the SDK's own filter stops what was said before, and nothing behind it would be counted.
    queue.filters[:] = [dropped, *(kept for kept in queue.filters if not isinstance(kept, DroppedSpanCounter))]
    return dropped
