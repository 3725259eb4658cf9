"""A channel to a router, its stubs, deadlines and typed errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any, Protocol, TypeVar

import grpc
from google.protobuf.message import DecodeError

from lensmesh.caption.v1 import caption_pb2_grpc
from lensmesh.encoder.v1 import encoder_pb2_grpc
from lensmesh.router.v1 import router_pb2, router_pb2_grpc
from lensmesh.search.v1 import search_pb2_grpc
from lensmesh_chassis.channels import ChannelSecurity, open_channel
from lensmesh_chassis.contract import TRACE_ID_KEY
from lensmesh_chassis.errors import DeadlineExceeded, InvalidInput, LensmeshError, Unavailable, UpstreamFault
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import from_rpc_error
from lensmesh_chassis.tls.handshakes import explain_handshake, explain_hang_up
from lensmesh_client import mesh, translate_mesh
from lensmesh_client.guard import answered, check_seconds, check_text, unreadable
from lensmesh_client.ownership import Ownership, closed
from lensmesh_client.silence import told

Q = TypeVar("Q", contravariant=True)
R = TypeVar("R", covariant=True)

GRACE_S = 2.0


class Unary(Protocol[Q, R]):
    """A unary method of an asynchronous stub."""

    def __call__(self, request: Q, /, *, timeout: float | None = None) -> Awaitable[R]: ...


class Streaming(Protocol[Q, R]):
    """A method of an asynchronous stub that streams its answers."""

    def __call__(self, request: Q, /, *, timeout: float | None = None) -> AnswerStream[R]: ...


class AnswerStream(Protocol[R]):
    """Answers as they come, until the call ends or is cancelled."""

    def __aiter__(self) -> AsyncIterator[R]: ...

    def cancel(self) -> bool: ...


class Connection:
    """The channel is opened by the first call, in the event loop that makes it."""

    def __init__(
        self,
        target: str,
        security: ChannelSecurity | None,
        timeout_s: float | None,
        max_message_bytes: int,
        on_wait: Callable[[str], None] | None = None,
    ) -> None:
        self.target = target
        self._timeout_s = check_seconds(timeout_s, "timeout_s")
        self._on_wait = on_wait
        self._security = security
        self._max_message_bytes = max_message_bytes
        self._channel: grpc.aio.Channel | None = None
        self._limits: mesh.Limits | None = None
        self._default_collection = ""
        self._ownership = Ownership()
        self.closings = 0
        """Number of times that it was closed."""

    @property
    def channel(self) -> grpc.aio.Channel:
        """Opened where it is not yet. Raises PreconditionFailed in another event loop, and after a fork."""
        self._ownership.take()
        if self._channel is None:
            if not check_text(self.target, "target", Reason.OPTION_INVALID):
                raise InvalidInput(Reason.OPTION_INVALID, "target is empty: name a host:port", field="target")
            self._channel = open_channel(
                self.target, security=self._security, max_message_bytes=self._max_message_bytes, proxied=True
            )
        return self._channel

    @property
    def router(self) -> router_pb2_grpc.RouterServiceAsyncStub:
        """Whole jobs."""
        return router_pb2_grpc.RouterServiceStub(self.channel)

    @property
    def encoder(self) -> encoder_pb2_grpc.EncoderServiceAsyncStub:
        """The encoders behind the router."""
        return encoder_pb2_grpc.EncoderServiceStub(self.channel)

    @property
    def captioner(self) -> caption_pb2_grpc.CaptionerServiceAsyncStub:
        """The captioners behind the router."""
        return caption_pb2_grpc.CaptionerServiceStub(self.channel)

    @property
    def search(self) -> search_pb2_grpc.SearchServiceAsyncStub:
        """The collections and items behind the router."""
        return search_pb2_grpc.SearchServiceStub(self.channel)

    async def call(self, method: Unary[Q, R], request: Q, timeout_s: float | None = None) -> R:
        """Make one unary call with a deadline. Raises LensmeshError only."""
        answer, _ = await self.traced_call(method, request, timeout_s)
        return answer

    async def traced_call(self, method: Unary[Q, R], request: Q, timeout_s: float | None = None) -> tuple[R, str]:
        """Call as `call` does, and return the id of the trace that the mesh keeps of it; "" where it keeps none."""
        async with told(self, self._on_wait):
            return await self.silent_call(method, request, self._timeout_s if timeout_s is None else timeout_s)

    async def silent_call(self, method: Unary[Q, R], request: Q, timeout_s: float | None) -> tuple[R, str]:
        """Call as `traced_call` does, however long it takes: for the question what another call waits for."""
        timeout_s = check_seconds(timeout_s, "timeout_s")
        try:
            return await self._once(method, request, timeout_s)
        except grpc.RpcError as error:
            # Who gives up here raises CancelledError. As a status it comes from a router that ended under the call, and
            # each unary call of the mesh may be sent again.
            if not isinstance(error, grpc.aio.AioRpcError) or error.code() is not grpc.StatusCode.CANCELLED:
                raise self.explain(error) from error
        try:
            return await self._once(method, request, timeout_s)
        except grpc.RpcError as error:
            raise self.explain(error) from error

    async def _once(self, method: Unary[Q, R], request: Q, timeout_s: float | None) -> tuple[R, str]:
        closings = self.closings
        rpc: Any = method(request, timeout=timeout_s)
        try:
            # gRPC keeps the deadline itself; in a process that was forked under another gRPC user it keeps none.
            async with asyncio.timeout(None if timeout_s is None else timeout_s + GRACE_S):
                answer: R = await answered(rpc)
                return answer, _trace_id(await rpc.trailing_metadata())
        except UpstreamFault as error:
            # gRPC tells of its channel's end as it does of an answer that it cannot read.
            if self.closings != closings:
                raise closed() from error
            raise
        except TimeoutError as error:
            raise DeadlineExceeded(
                Reason.DEADLINE_EXCEEDED,
                f"gRPC told nothing within {timeout_s} s, not even that the deadline passed: was this process forked "
                "after gRPC had begun?",
            ) from error

    def explain(self, error: grpc.RpcError) -> LensmeshError:
        """Return the typed error, with the id of its trace. It says where nobody answered, and how somebody would."""
        typed = from_rpc_error(error)
        if isinstance(error, grpc.aio.AioRpcError) and (trace_id := _trace_id(error.trailing_metadata())):
            typed.metadata["trace_id"] = trace_id
        if not isinstance(typed, Unavailable) or typed.reason is not Reason.UNKNOWN:
            return typed
        if why := explain_handshake(typed.message, self._security):
            return Unavailable(
                Reason.TLS_FAILED,
                f"no connection to {self.target}: {why}.",
                retry_after_s=typed.retry_after_s,
                metadata=typed.metadata | {"details": typed.message},
            )
        hint = explain_hang_up(typed.message, self._security) or (
            "`lensmesh up` starts a mesh on this machine; another address is given by target"
        )
        return Unavailable(
            typed.reason,
            f"no lensmesh router answers at {self.target} ({typed.message}). {hint}.",
            retry_after_s=typed.retry_after_s,
            metadata=typed.metadata,
        )

    async def streamed(self, method: Streaming[Q, R], request: Q, timeout_s: float | None = None) -> AsyncGenerator[R]:
        """Yield the answers of a call that streams them. Raises LensmeshError only."""
        timeout_s = check_seconds(self._timeout_s if timeout_s is None else timeout_s, "timeout_s")
        closings = self.closings
        call = method(request, timeout=timeout_s)
        try:
            async for answer in call:
                if answer is None:
                    raise unreadable()
                yield answer
        except grpc.RpcError as error:
            raise self.explain(error) from error
        except DecodeError as error:
            raise unreadable() from error
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise (unreadable() if self.closings == closings else closed()) from error
        finally:
            call.cancel()

    async def limits(self, *, refresh: bool = False, timeout_s: float | None = None) -> mesh.Limits:
        """Return what the router accepts: asked once, and on `refresh`. `timeout_s` is that of the call it is for."""
        if self._limits is None or refresh:
            given = (check_seconds(timeout_s, "timeout_s"), self._timeout_s)
            least = min((seconds for seconds in given if seconds is not None), default=None)
            answer = await self.call(self.router.GetStatus, router_pb2.GetStatusRequest(), least)
            self._limits = translate_mesh.limits(answer.limits)
            self._default_collection = answer.default_collection
        return self._limits

    async def collection(self, name: str, timeout_s: float | None = None) -> str:
        """Return `name`, or for an empty one the mesh's default, which only the router knows."""
        if check_text(name, "collection", Reason.COLLECTION_INVALID):
            return name
        await self.limits(timeout_s=timeout_s)
        return self._default_collection

    async def close(self) -> None:
        """End running calls."""
        channel, self._channel = self._channel, None
        self.closings += 1
        self._ownership.release()
        if channel is not None:
            await channel.close()


def _trace_id(trailing: Any) -> str:
    return next((str(value) for key, value in trailing or () if key == TRACE_ID_KEY), "")
