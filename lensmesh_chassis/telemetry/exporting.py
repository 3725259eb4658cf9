"""Sends spans to a collector, and says once when it cannot."""

import logging
from collections.abc import Sequence

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from lensmesh_chassis.telemetry.logging import get_logger

_log = get_logger(__name__)

# They tell of every attempt and of every span that found no room.
_CHATTY = (
    "opentelemetry.exporter.otlp.proto.grpc.exporter",
    "opentelemetry.sdk._shared_internal",
    "opentelemetry.sdk.trace.export",
)


class SayingOnce(SpanExporter):
    """Another exporter; of a collector that is away it tells when it goes and when it comes back, once each."""

    def __init__(self, exporter: SpanExporter, where: str) -> None:
        self._exporter, self._where = exporter, where
        self._lost = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        if result is SpanExportResult.SUCCESS:
            if self._lost:
                _log.info("traces reach their collector again", collector=self._where, lost_spans=self._lost)
            self._lost = 0
            return result
        if not self._lost:
            _log.warning(
                "traces do not reach their collector: spans are dropped until it answers, calls go on",
                collector=self._where,
                setting="OTEL_EXPORTER_OTLP_ENDPOINT",
            )
        self._lost += len(spans)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def quieten() -> None:
    """Keep the exporter's own words out of this process' log: `SayingOnce` says what matters."""
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.CRITICAL)
