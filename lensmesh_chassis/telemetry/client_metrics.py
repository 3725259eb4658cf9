"""The usual gRPC client metrics, for the channels of one process."""

import asyncio
import time
from typing import Any

import grpc
from prometheus_client import CollectorRegistry, Counter, Histogram

from lensmesh_chassis.rpc.client_interceptor import ClientInterceptor
from lensmesh_chassis.telemetry.exemplars import exemplar
from lensmesh_chassis.telemetry.metrics import CALL_SECONDS, METHOD_LABELS


class ClientMetrics(ClientInterceptor):
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
        self._methods: dict[Any, tuple[tuple[str, str, str], Any, Any]] = {}
        self._ending: set[asyncio.Task[None]] = set()

    async def make_call(self, shape: str, continuation: Any, details: Any, request: Any) -> Any:
        """Make the call, and count it when it ends, however it ends."""
        labels, started, seconds = self._of(details.method, shape)
        started.inc()
        begun, at = time.perf_counter(), exemplar()
        try:
            call = await continuation(details, request)
        except BaseException as error:
            # No call came of it, as on a closed channel: it was counted as started, so it counts as ended too.
            seconds.observe(time.perf_counter() - begun, at)
            self.handled.labels(*labels, _code(error).name).inc()
            raise

        async def count() -> None:
            self.handled.labels(*labels, (await call.code()).name).inc()

        def ended(_: Any) -> None:
            seconds.observe(time.perf_counter() - begun, at)
            # The code of a call that has ended is there at once, but gRPC tells it to a coroutine only.
            task = asyncio.get_running_loop().create_task(count())
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

        call.add_done_callback(ended)
        return call

    def _of(self, method: str | bytes, shape: str) -> tuple[tuple[str, str, str], Any, Any]:
        known = self._methods.get(method)
        if known is None:
            text = method.decode() if isinstance(method, bytes) else method
            service, _, name = text.lstrip("/").rpartition("/")
            labels = (shape, service, name)
            known = (labels, self.started.labels(*labels), self.seconds.labels(*labels))
            self._methods[method] = known
        return known


def _code(error: BaseException) -> grpc.StatusCode:
    if isinstance(error, asyncio.CancelledError):
        return grpc.StatusCode.CANCELLED
    code = error.code() if isinstance(error, grpc.aio.AioRpcError) else None
    return code or grpc.StatusCode.UNKNOWN
