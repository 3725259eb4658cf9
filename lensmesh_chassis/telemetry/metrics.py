"""The usual gRPC server metrics, in a registry of this server, and the HTTP endpoint that shows them."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from lensmesh_chassis.errors import Unavailable
from lensmesh_chassis.process.addresses import ListenAddress, why_not_bound
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.call_code import outcome
from lensmesh_chassis.rpc.handlers import Interceptor, Rpc, rebuilt, streaming, unary
from lensmesh_chassis.telemetry.exemplars import exemplar

METHOD_LABELS = ("grpc_type", "grpc_service", "grpc_method")
# From a cached answer to a long caption batch, in seconds.
CALL_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_BYTES = tuple(float(2**exponent) for exponent in range(6, 28, 3))


class _Method:
    """Metrics of one method, looked up once."""

    def __init__(self, metrics: "CallMetrics", labels: tuple[str, str, str]) -> None:
        self.labels = labels
        self.started = metrics.started.labels(*labels)
        self.in_flight = metrics.in_flight.labels(*labels)
        self.seconds = metrics.seconds.labels(*labels)
        self.received = metrics.received.labels(*labels)
        self.sent = metrics.sent.labels(*labels)
        self.received_bytes = metrics.received_bytes.labels(*labels)
        self.sent_bytes = metrics.sent_bytes.labels(*labels)


class CallMetrics(Interceptor):
    """Interceptor that counts calls and messages.

    Only methods that the server has become labels, so callers cannot add any.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        r = registry
        self.started = Counter("grpc_server_started_total", "Calls begun.", METHOD_LABELS, registry=r)
        self.handled = Counter(
            "grpc_server_handled_total", "Calls ended, by code.", (*METHOD_LABELS, "grpc_code"), registry=r
        )
        self.in_flight = Gauge("grpc_server_in_flight", "Calls that run now.", METHOD_LABELS, registry=r)
        self.seconds = Histogram(
            "grpc_server_handling_seconds",
            "Time from a call's begin to its end.",
            METHOD_LABELS,
            buckets=CALL_SECONDS,
            registry=r,
        )
        self.received = Counter("grpc_server_msg_received_total", "Messages received.", METHOD_LABELS, registry=r)
        self.sent = Counter("grpc_server_msg_sent_total", "Messages sent.", METHOD_LABELS, registry=r)
        self.received_bytes = Histogram(
            "grpc_server_msg_received_bytes", "Sizes of messages received.", METHOD_LABELS, buckets=_BYTES, registry=r
        )
        self.sent_bytes = Histogram(
            "grpc_server_msg_sent_bytes", "Sizes of messages sent.", METHOD_LABELS, buckets=_BYTES, registry=r
        )
        self._methods: dict[str, _Method] = {}

    def _of(self, rpc: Rpc) -> _Method:
        method = self._methods.get(rpc.method)
        if method is None:
            method = self._methods[rpc.method] = _Method(self, (rpc.type, rpc.service, rpc.name))
        return method

    def adapt(self, rpc: Rpc, handler: Any) -> Any:
        """Count messages in the codecs: they see every message of every style of handler, and its size for nothing."""
        method = self._of(rpc)
        parse, serialize = handler.request_deserializer, handler.response_serializer

        def received(data: bytes) -> Any:
            method.received.inc()
            method.received_bytes.observe(len(data))
            return parse(data) if parse else data

        def sent(message: Any) -> Any:
            data = serialize(message) if serialize else message
            method.sent.inc()
            method.sent_bytes.observe(len(data))
            return data

        run = streaming(handler) if rpc.response_streaming else unary(handler)
        return rebuilt(handler, run, request_deserializer=received, response_serializer=sent)

    @asynccontextmanager
    async def around(self, rpc: Rpc, context: Any) -> AsyncIterator[None]:
        method, start, error = self._of(rpc), time.perf_counter(), None
        at = exemplar()
        method.started.inc()
        method.in_flight.inc()
        try:
            yield
        except BaseException as caught:
            error = caught
            raise
        finally:
            method.in_flight.dec()
            method.seconds.observe(time.perf_counter() - start, at)
            self.handled.labels(*method.labels, outcome(error, context).name).inc()


class MetricsEndpoint:
    """HTTP server that shows a registry, in a thread of its own. `address` is where it listens."""

    def __init__(self, registry: CollectorRegistry, wanted: ListenAddress) -> None:
        try:
            self._server, self._thread = start_http_server(wanted.port, wanted.host, registry)
        except OSError as error:
            raise Unavailable(
                Reason.NOT_READY,
                f"cannot serve metrics on {wanted}: {why_not_bound(error, 'metrics_listen')}",
                metadata={"address": wanted},
            ) from error
        self.address = ListenAddress(host=wanted.host, port=self._server.server_port)

    def close(self) -> None:
        """Stop serving. Blocks for up to half a second."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
