"""OpenTelemetry: traces of calls, exported by OTLP where the standard variables name a collector, off otherwise."""

import importlib.util
import os
import threading
from collections.abc import Sequence
from typing import Any

from opentelemetry import trace

from lensmesh_chassis.process.server_info import version
from lensmesh_chassis.rpc.client_calls import ClientInterceptor
from lensmesh_chassis.rpc.handlers import Interceptor
from lensmesh_chassis.settings_error import SettingsError

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
# Each of them a part of opentelemetry, which is there with the interface alone.
_PACKAGES = ("opentelemetry.sdk", "opentelemetry.exporter", "opentelemetry.instrumentation")
MISSING = 'what makes and exports spans is not installed: pip install "lensmesh[telemetry]"'
# Longest wait at exit for the last spans to leave, in seconds.
_FLUSH_SECONDS = 5.0
# Characters of one attribute that are kept, on a span and (a stack's lines, an error's words) on its events: callers
# choose some of them, such as an item's ref, and a collector refuses a message of more than a few megabytes.
_SPAN_VALUE_LENGTH = 1024
_EVENT_VALUE_LENGTH = 16_384
# Links that are kept on one span. More than a batch or a call carries: OpenTelemetry's own 128 lost some in silence.
_LINKS = 4096


def collector() -> str:
    """Return the address that the standard variables send spans to; "" where tracing is off."""
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or os.environ.get("OTEL_TRACES_EXPORTER") == "none":
        return ""
    return next((value for name in _ENDPOINTS if (value := os.environ.get(name, "").strip())), "")


def can_export() -> bool:
    """Tell whether the packages of lensmesh[telemetry] are installed: a client does without."""
    return all(importlib.util.find_spec(name) for name in _PACKAGES)


def start_tracing(service: str, instance: str) -> Any | None:
    """Export this process' spans where OTEL_EXPORTER_OTLP_ENDPOINT is set.

    Return the provider, or None where it is not.

    Sampler, headers and batch sizes follow the standard OTEL_ variables; of bulk work the share
    LENSMESH_TRACES_BULK_RATIO is kept. Raises SettingsError where that is no ratio, and where the exporters are not
    installed.
    """
    where = collector()
    if not where:
        return None
    if not can_export():
        raise SettingsError(f"traces are to be sent to {where}, and {MISSING}")
    # Imported here: a process without tracing pays neither the memory nor the time of the SDK.
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    from lensmesh_chassis.telemetry.exporting import OutageLoggingExporter, quieten
    from lensmesh_chassis.telemetry.sampling import MeshSampler

    attributes = {"service.version": version(), "service.instance.id": instance, "service.namespace": "lensmesh"}
    if not os.environ.get("OTEL_SERVICE_NAME"):
        attributes["service.name"] = f"lensmesh-{service}"
    # Stopped by stop_tracing, which does not wait for ever.
    provider = TracerProvider(resource=Resource.create(attributes), shutdown_on_exit=False, span_limits=_limits())
    provider.sampler = MeshSampler(provider.sampler)
    provider.add_span_processor(BatchSpanProcessor(OutageLoggingExporter(OTLPSpanExporter(), where, quieten())))
    trace.set_tracer_provider(provider)
    return provider


def _limits() -> Any:
    """Return how much one span may keep. A standard variable that is set overrules it."""
    from opentelemetry.sdk.trace import SpanLimits

    def unless(default: int, *variables: str) -> int | None:
        return None if any(name in os.environ for name in variables) else default

    of_all, of_spans = "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT"
    return SpanLimits(
        max_attribute_length=unless(_EVENT_VALUE_LENGTH, of_all),
        max_span_attribute_length=unless(_SPAN_VALUE_LENGTH, of_all, of_spans),
        max_links=unless(_LINKS, "OTEL_SPAN_LINK_COUNT_LIMIT"),
    )


def stop_tracing(provider: Any | None, seconds: float = _FLUSH_SECONDS) -> None:
    """Send what is left, for a few seconds at most: a collector that cannot be reached must not hold up the exit."""
    if provider is None:
        return
    thread = threading.Thread(target=provider.shutdown, name="otel-shutdown", daemon=True)
    thread.start()
    thread.join(seconds)


def active_provider() -> Any | None:
    """Return the tracer provider that somebody set for this process, or None."""
    provider = trace.get_tracer_provider()
    return None if isinstance(provider, trace.ProxyTracerProvider | trace.NoOpTracerProvider) else provider


def server_interceptors(provider: Any | None) -> Sequence[Interceptor]:
    """Return the interceptors that make a span of each call served; none without a provider."""
    if provider is None:
        return ()
    from lensmesh_chassis.telemetry.rpc_spans import ServerSpans

    return (ServerSpans(provider),)


def client_interceptors(provider: Any | None, target: str = "") -> Sequence[ClientInterceptor]:
    """Return the interceptors that make a span of each call made and pass the trace on.

    Without provider or packages: none.
    """
    if provider is None or not can_export():
        return ()
    from lensmesh_chassis.telemetry.rpc_spans import ClientSpans

    return (ClientSpans(provider, target),)
