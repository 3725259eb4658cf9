"""The usual gRPC client metrics, for the channels of one process."""

import time
from collections.abc import Callable

import grpc
from prometheus_client import CollectorRegistry

from lensmesh_chassis.rpc.client_calls import BeginCall, CallEnd, OutgoingCall
from lensmesh_chassis.rpc.handlers import RpcMethod
from lensmesh_chassis.telemetry.exemplars import exemplar
from lensmesh_chassis.telemetry.loop_metrics import Counter, Histogram, Number
from lensmesh_chassis.telemetry.metrics import CALL_SECONDS, METHOD_LABELS


class ClientMetrics:
    """Interceptor that counts the calls of this process.

    Labels are methods of our own contracts, so callers cannot add any.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        r = registry
        self.started = Counter("grpc_client_started_total", "Calls made.", METHOD_LABELS, registry=r)
        self.handled = Counter(
            "grpc_client_handled_total", "Calls made that ended, by code.", (*METHOD_LABELS, "grpc_code"), registry=r
        )
        self.seconds = Histogram(
            "grpc_client_handling_seconds",
            "Time from making a call to its end.",
            METHOD_LABELS,
            buckets=CALL_SECONDS,
            registry=r,
        )

    def around(self, method: RpcMethod) -> BeginCall:
        labels = (method.type, method.service, method.name)
        started, seconds = self.started.labels(*labels), self.seconds.labels(*labels)
        handled: dict[grpc.StatusCode, Number] = {}

        def begin(call: OutgoingCall) -> Callable[[CallEnd], None]:
            begun, at = time.perf_counter(), exemplar(call.span)
            started.inc()

            def end(how: CallEnd) -> None:
                seconds.observe(time.perf_counter() - begun, at)
                code = how.code or grpc.StatusCode.UNKNOWN
                counter = handled.get(code)
                if counter is None:
                    counter = handled[code] = self.handled.labels(*labels, code.name)
                counter.inc()

            return end

        return begin
