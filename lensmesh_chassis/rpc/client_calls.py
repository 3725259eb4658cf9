"""Calls that are made, and what takes part in them. For served calls see served.py.

What takes part only adds metadata and is told of the end, so that plain functions do. gRPC's own interceptors would
make a task for each call, and another one for each message of a stream.
"""

import functools
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import grpc

from lensmesh_chassis.rpc.handlers import RpcMethod


@dataclass(slots=True)
class OutgoingCall:
    """A call that is about to be made."""

    metadata: list[tuple[str, str | bytes]]
    span: Any = None
    """The call's own, where it is traced."""


@dataclass(frozen=True, slots=True)
class CallEnd:
    """The end of a call: its code, and the service's words if it failed; or what was raised in place of a call."""

    code: grpc.StatusCode | None = None
    details: str = ""
    error: BaseException | None = None


BeginCall = Callable[[OutgoingCall], Callable[[CallEnd], None] | None]
"""Takes a call before it is made. Returns what its end is told to; None where that is of no interest."""


class ClientInterceptor(Protocol):
    """Something that takes part in the calls that a channel makes."""

    def around(self, method: RpcMethod) -> BeginCall | None:
        """Return what each call of the method begins with; None to take no part in them.

        Asked once for each method of a stub.
        """


class InterceptedChannel(grpc.aio.Channel):
    """A channel in whose calls interceptors take part, outermost first."""

    def __init__(self, channel: grpc.aio.Channel, interceptors: Sequence[ClientInterceptor]) -> None:
        # Generated stubs call it with more than its types tell.
        self._channel: Any = channel
        self._interceptors = interceptors

    def unary_unary(self, method: str, *codecs: Any, **more: Any) -> Any:
        return self._method(RpcMethod(method, False, False), self._channel.unary_unary(method, *codecs, **more))

    def unary_stream(self, method: str, *codecs: Any, **more: Any) -> Any:
        return self._method(RpcMethod(method, False, True), self._channel.unary_stream(method, *codecs, **more))

    def stream_unary(self, method: str, *codecs: Any, **more: Any) -> Any:
        return self._method(RpcMethod(method, True, False), self._channel.stream_unary(method, *codecs, **more))

    def stream_stream(self, method: str, *codecs: Any, **more: Any) -> Any:
        return self._method(RpcMethod(method, True, True), self._channel.stream_stream(method, *codecs, **more))

    def _method(self, method: RpcMethod, make: Callable[..., Any]) -> Callable[..., Any]:
        begins = begins_of(self._interceptors, method)

        def call(*request: Any, metadata: Any = None, **options: Any) -> Any:
            making = OutgoingCall(list(metadata or ()))
            ends = [end for begin in begins if (end := begin(making)) is not None]
            try:
                made = make(*request, metadata=making.metadata, **options)
            except BaseException as error:
                tell_unmade(ends, error)
                raise
            if ends:
                made.add_done_callback(functools.partial(tell_end, ends))
            return made

        return call

    async def close(self, grace: float | None = None) -> None:
        await self._channel.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        state: grpc.ChannelConnectivity = self._channel.get_state(try_to_connect)
        return state

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._channel.channel_ready()

    async def __aenter__(self) -> "InterceptedChannel":
        await self._channel.__aenter__()
        return self

    async def __aexit__(self, *raised: Any) -> None:
        await self._channel.__aexit__(*raised)


def begins_of(interceptors: Sequence[ClientInterceptor], method: RpcMethod) -> list[BeginCall]:
    """Return what a method's calls begin with."""
    return [begin for each in interceptors if (begin := each.around(method)) is not None]


def tell_end(ends: Sequence[Callable[[CallEnd], None]], call: Any) -> None:
    """Tell of a call that has ended."""
    code = _told(call.code())
    _tell(ends, CallEnd(code, "" if code is grpc.StatusCode.OK else _told(call.details()) or ""))


def tell_unmade(ends: Sequence[Callable[[CallEnd], None]], error: BaseException) -> None:
    """Tell of an error in place of a call, as on a closed channel."""
    _tell(ends, CallEnd(error=error))


def _tell(ends: Sequence[Callable[[CallEnd], None]], end: CallEnd) -> None:
    for each in reversed(ends):
        each(end)


def _told(answer: Coroutine[Any, Any, Any]) -> Any:
    """Return the result of a coroutine of an ended call: it has nothing to wait for, but gRPC tells no other way."""
    try:
        answer.send(None)
    except StopIteration as stop:
        return stop.value
    finally:
        answer.close()
    raise AssertionError("a call that is done has no code")
