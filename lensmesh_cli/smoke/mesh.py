"""The mesh as a smoke test reaches it: one channel, calls with deadlines, typed errors, and the state of a run."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import grpc

from lensmesh.caption.v1 import caption_pb2_grpc
from lensmesh.encoder.v1 import encoder_pb2_grpc
from lensmesh.router.v1 import router_pb2_grpc
from lensmesh.search.v1 import search_pb2_grpc
from lensmesh_chassis.channels import ChannelSecurity, open_channel
from lensmesh_chassis.rpc.status import from_rpc_error
from lensmesh_cli.smoke.images import two_images

Q = TypeVar("Q", contravariant=True)
R = TypeVar("R", covariant=True)
TRACED = "lensmesh-trace-id"


class UnaryStub(Protocol[Q, R]):
    """A unary method of an asynchronous stub."""

    def __call__(self, request: Q, /, *, timeout: float) -> Awaitable[R]: ...


@dataclass(frozen=True, slots=True)
class Options:
    """The options of the command line."""

    target: str
    security: ChannelSecurity
    server_name: str = ""
    jaeger: str = ""
    """Address of Jaeger's query API, "" to leave the trace out."""
    http: str = ""
    """Address of the front door, "" to leave it out."""
    timeout_s: float = 60.0
    """The seconds that one call may take."""
    wait_s: float = 0.0
    """The seconds until the mesh must be ready."""


def _unique(prefix: str) -> str:
    return f"{prefix}{secrets.token_hex(6)}"


@dataclass
class SmokeMesh:
    """The mesh and the state of one run. Make it on the event loop, and close it."""

    options: Options
    collection: str = field(default_factory=lambda: _unique("smoke-"))
    images: tuple[bytes, bytes] = field(default_factory=two_images)
    ids: Sequence[str] = ("smoke-red-disc", "smoke-blue-square")
    services: set[str] = field(default_factory=set)
    """The kinds of services that serve: encoder, caption, search."""
    wrote: bool = False
    """True where something was sent that has to be deleted."""
    trace_id: str = field(default_factory=lambda: secrets.token_hex(16))

    def __post_init__(self) -> None:
        options = self.options
        self.channel: grpc.aio.Channel = open_channel(
            options.target,
            security=options.security,
            authority=options.server_name,
            instrument=False,
            proxied=True,
        )
        self.router = router_pb2_grpc.RouterServiceStub(self.channel)
        self.encoder = encoder_pb2_grpc.EncoderServiceStub(self.channel)
        self.captioner = caption_pb2_grpc.CaptionerServiceStub(self.channel)
        self.search = search_pb2_grpc.SearchServiceStub(self.channel)

    async def call(self, method: UnaryStub[Q, R], request: Q) -> R:
        """Make one call with a deadline. Raises LensmeshError."""
        try:
            return await method(request, timeout=self.options.timeout_s)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from None

    async def traced(self, method: Any, request: Any) -> Any:
        """Make one call as part of this run's trace. The mesh is asked to keep the trace whatever its sampling says."""
        parent = f"00-{self.trace_id}-{secrets.token_hex(8)}-01"
        rpc = method(request, timeout=self.options.timeout_s, metadata=(("traceparent", parent),))
        try:
            answer = await rpc
        except grpc.RpcError as error:
            raise from_rpc_error(error) from None
        for key, value in await rpc.trailing_metadata() or ():
            if key == TRACED:
                self.trace_id = str(value)
        return answer

    async def close(self) -> None:
        """Close the channel."""
        await self.channel.close()
