"""OpenTelemetry: traces of calls, exported by OTLP where the standard variables name a collector, off otherwise."""

import os
import threading
from collections.abc import Sequence
from typing import Any

import grpc
from opentelemetry import trace

from lensmesh_chassis.process import version
from lensmesh_chassis.telemetry.rpc_spans import ServerSpans, client_span_interceptors

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
# Longest wait at exit for the last spans to leave, in seconds.
_FLUSH_SECONDS = 5.0


def collector() -> str:
    """Where the standard variables send spans to; "" where tracing is off."""
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or os.environ.get("OTEL_TRACES_EXPORTER") == "none":
        return ""
    return next((value for name in _ENDPOINTS if (value := os.environ.get(name, "").strip())), "")


def start_tracing(service: str, instance: str) -> Any | None:
    """Export this process' spans where OTEL_EXPORTER_OTLP_ENDPOINT is set: the provider, or None where it is not.

    Sampler, headers and batch sizes follow the standard OTEL_ variables; of bulk work LENSMESH_TRACES_BULK_RATIO is
    kept. Raises SettingsError where that is no ratio.
    """
    where = collector()
    if not where:
        return None
    # Imported here: a process without tracing pays neither the memory nor the time of the SDK.
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    from lensmesh_chassis.telemetry.exporting import SayingOnce, quieten
    from lensmesh_chassis.telemetry.sampling import MeshSampler

    attributes = {"service.version": version(), "service.instance.id": instance, "service.namespace": "lensmesh"}
    if not os.environ.get("OTEL_SERVICE_NAME"):
        attributes["service.name"] = f"lensmesh-{service}"
    # Stopped by stop_tracing, which does not wait for ever.
    provider = TracerProvider(resource=Resource.create(attributes), shutdown_on_exit=False)
    provider.sampler = MeshSampler(provider.sampler)
    quieten()
    provider.add_span_processor(BatchSpanProcessor(SayingOnce(OTLPSpanExporter(), where)))
    trace.set_tracer_provider(provider)
    return provider


def stop_tracing(provider: Any | None, seconds: float = _FLUSH_SECONDS) -> None:
    """Send what is left, for a few seconds at most: a collector that is away must not hold up the exit."""
    if provider is None:
        return
    thread = threading.Thread(target=provider.shutdown, name="otel-shutdown", daemon=True)
    thread.start()
    thread.join(seconds)


def active_provider() -> Any | None:
    """The tracer provider that somebody set for this process, or None."""
    provider = trace.get_tracer_provider()
    return None if isinstance(provider, trace.ProxyTracerProvider | trace.NoOpTracerProvider) else provider


def server_interceptors(provider: Any | None) -> Sequence[grpc.aio.ServerInterceptor]:
    """A span for each call served; none at all without a provider."""
    return () if provider is None else (ServerSpans(provider),)


def client_interceptors(provider: Any | None, target: str = "") -> Sequence[grpc.aio.ClientInterceptor]:
    """A span for each call made, and the trace passed on; none at all without a provider."""
    return () if provider is None else client_span_interceptors(provider, target)
