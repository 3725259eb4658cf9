"""OpenTelemetry: traces of calls, exported by OTLP where the standard variables name a collector, off otherwise."""

import os
import threading
from collections.abc import Sequence
from typing import Any

import grpc
from opentelemetry import trace

from lensmesh_chassis.process import version
from lensmesh_chassis.shapes import StreamAnchor, is_infrastructure

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
# Longest wait at exit for the last spans to leave, in seconds.
_FLUSH_SECONDS = 5.0


def start_tracing(service: str, instance: str) -> Any | None:
    """Export this process' spans where OTEL_EXPORTER_OTLP_ENDPOINT is set: the provider, or None where it is not.

    Sampler, headers and batch sizes follow the standard OTEL_ variables.
    """
    if (
        not any(os.environ.get(name) for name in _ENDPOINTS)
        or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    ):
        return None
    # Imported here: a process without tracing pays neither the memory nor the time of the SDK.
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    attributes = {"service.version": version(), "service.instance.id": instance, "service.namespace": "lensmesh"}
    if not os.environ.get("OTEL_SERVICE_NAME"):
        attributes["service.name"] = f"lensmesh-{service}"
    provider = TracerProvider(resource=Resource.create(attributes))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return provider


def stop_tracing(provider: Any | None) -> None:
    """Send what is left, for a few seconds at most: a collector that is away must not hold up the exit."""
    if provider is None:
        return
    thread = threading.Thread(target=provider.shutdown, name="otel-shutdown", daemon=True)
    thread.start()
    thread.join(_FLUSH_SECONDS)


def active_provider() -> Any | None:
    """The tracer provider that somebody set for this process, or None."""
    provider = trace.get_tracer_provider()
    return None if isinstance(provider, trace.ProxyTracerProvider | trace.NoOpTracerProvider) else provider


def server_interceptors(provider: Any | None) -> Sequence[grpc.aio.ServerInterceptor]:
    """A span for each call served; none at all without a provider."""
    if provider is None:
        return ()
    from opentelemetry.instrumentation.grpc import aio_server_interceptor

    make: Any = aio_server_interceptor
    return (make(tracer_provider=provider, filter_=_traced), StreamAnchor())


def client_interceptors(provider: Any | None) -> Sequence[grpc.aio.ClientInterceptor]:
    """A span for each call made, and the trace passed on; none at all without a provider."""
    if provider is None:
        return ()
    from opentelemetry.instrumentation.grpc import aio_client_interceptors

    make: Any = aio_client_interceptors
    return tuple(make(tracer_provider=provider, filter_=_traced))


def _traced(details: Any) -> bool:
    method = details.method
    return not is_infrastructure(method.decode() if isinstance(method, bytes) else method)
