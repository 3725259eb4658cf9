"""The router behind the door: one channel, and every call that is made on it."""

from collections.abc import AsyncGenerator
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message
from prometheus_client import CollectorRegistry

from http_svc.settings import HttpSettings
from lensmesh.caption.v1 import caption_pb2_grpc
from lensmesh.encoder.v1 import encoder_pb2_grpc
from lensmesh.router.v1 import router_pb2_grpc
from lensmesh.search.v1 import search_pb2_grpc
from lensmesh_chassis.channels import open_channel
from lensmesh_chassis.errors import LensmeshError, Unavailable
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import from_rpc_error
from lensmesh_chassis.telemetry.client_metrics import ClientMetrics
from lensmesh_chassis.tls.credentials import peer_security

R = TypeVar("R", bound=Message)


class Mesh:
    """Typed stubs of the router's contracts. To be made on the event loop."""

    def __init__(self, settings: HttpSettings, registry: CollectorRegistry, tracer_provider: Any | None) -> None:
        self._settings = settings
        self.channel = open_channel(
            settings.router_target,
            security=peer_security(settings),
            max_message_bytes=settings.max_message_bytes,
            tracer_provider=tracer_provider,
            metrics=ClientMetrics(registry),
        )
        # The generated classes are the asynchronous ones on an asynchronous channel.
        self.router: router_pb2_grpc.RouterServiceAsyncStub = router_pb2_grpc.RouterServiceStub(self.channel)
        self.encoder: encoder_pb2_grpc.EncoderServiceAsyncStub = encoder_pb2_grpc.EncoderServiceStub(self.channel)
        self.captioner: caption_pb2_grpc.CaptionerServiceAsyncStub = caption_pb2_grpc.CaptionerServiceStub(self.channel)
        self.search: search_pb2_grpc.SearchServiceAsyncStub = search_pb2_grpc.SearchServiceStub(self.channel)

    async def call(self, method: Any, request: Any, timeout_s: float | None = None) -> Any:
        """Make one unary call. Raises LensmeshError only, with the details of the service where it sent some."""
        call = method(request, timeout=timeout_s or self._settings.call_seconds)
        try:
            return await call
        except grpc.RpcError as error:
            raise self.explain(error) from error

    async def stream(self, method: Any, request: Any, timeout_s: float | None = None) -> AsyncGenerator[Any]:
        """Yield the answers of a call that streams them. Raises as `call` does. Leaving it ends the call."""
        call = method(request, timeout=timeout_s)
        try:
            async for answer in call:
                yield answer
        except grpc.RpcError as error:
            raise self.explain(error) from error
        finally:
            call.cancel()

    def explain(self, error: grpc.RpcError) -> LensmeshError:
        """Return the typed error; one that tells whom to look at, where the router itself cannot be reached."""
        typed = from_rpc_error(error)
        if isinstance(typed, Unavailable) and typed.reason is Reason.UNKNOWN:
            return Unavailable(
                Reason.NOT_READY,
                "the router behind this server cannot be reached just now: try again",
                retry_after_s=typed.retry_after_s or 1.0,
            )
        return typed

    async def close(self) -> None:
        """End running calls."""
        await self.channel.close()


async def begun(answers: AsyncGenerator[Any]) -> AsyncGenerator[Any]:
    """Wait for the first answer of a stream, and return the stream with it. Raises what the stream raises before it."""
    try:
        first = [await anext(answers)]
    except StopAsyncIteration:
        first = []

    async def again() -> AsyncGenerator[Any]:
        try:
            for answer in first:
                yield answer
            async for answer in answers:
                yield answer
        finally:
            await answers.aclose()

    return again()
