"""The usual gRPC server metrics, in a registry of this server, and the HTTP endpoint that shows them."""

import time
from collections.abc import Callable
from typing import Any

import grpc
from prometheus_client import CollectorRegistry, start_http_server

from lensmesh_chassis.errors import Unavailable
from lensmesh_chassis.process.addresses import ListenAddress, why_not_bound
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.handlers import Begin, End, RpcMethod
from lensmesh_chassis.telemetry.exemplars import exemplar
from lensmesh_chassis.telemetry.loop_metrics import Counter, Distribution, Gauge, Histogram, Number

METHOD_LABELS = ("grpc_type", "grpc_service", "grpc_method")
# From a cached answer to a long caption batch, in seconds.
CALL_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_BYTES = tuple(float(2**exponent) for exponent in range(6, 28, 3))


class CallMetrics:
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

    def around(self, method: RpcMethod) -> Begin:
        labels = (method.type, method.service, method.name)
        started, in_flight = self.started.labels(*labels), self.in_flight.labels(*labels)
        seconds = self.seconds.labels(*labels)
        handled: dict[grpc.StatusCode, Number] = {}

        def begin(_context: Any) -> End:
            start, at = time.perf_counter(), exemplar()
            started.inc()
            in_flight.inc()

            def end(_error: BaseException | None, code: grpc.StatusCode) -> None:
                in_flight.dec()
                seconds.observe(time.perf_counter() - start, at)
                counter = handled.get(code)
                if counter is None:
                    counter = handled[code] = self.handled.labels(*labels, code.name)
                counter.inc()

            return end

        return begin

    def messages(self, method: RpcMethod) -> tuple[Callable[[int], None], Callable[[int], None]]:
        """Return what each message of the method's calls is told to, by its size: one received, and one sent."""
        labels = (method.type, method.service, method.name)
        return (
            _counted(self.received.labels(*labels), self.received_bytes.labels(*labels)),
            _counted(self.sent.labels(*labels), self.sent_bytes.labels(*labels)),
        )


def _counted(count: Number, sizes: Distribution) -> Callable[[int], None]:
    def message(size: int) -> None:
        count.inc()
        sizes.observe(size)

    return message


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
