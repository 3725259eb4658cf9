"""A channel for large messages: sending and receiving them holds the event loop for a few milliseconds at most."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message

from lensmesh_chassis.messages.packing import pack_message
from lensmesh_chassis.messages.parsing import INLINE_BYTES, parse_in_pieces
from lensmesh_chassis.telemetry.logging import get_logger

_LEAST_S = 0.001
log = get_logger(__name__)


class PiecewiseChannel:
    """A channel for stubs: requests of unary calls are serialized, and large answers parsed, in pieces.

    A call of such a stub gives its answer and nothing else: no metadata, and no way to cancel it but by its task.
    Streams pass through the channel unchanged.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        # Generated stubs call it with more than its types tell.
        self._channel: Any = channel

    def unary_unary(
        self, method: str, request_serializer: Any, response_deserializer: Any, _registered_method: bool = False
    ) -> _Unary:
        """Do as grpc.aio.Channel.unary_unary does, for generated stubs: the deserializer is a message's FromString."""
        del request_serializer
        call = self._channel.unary_unary(method, _registered_method=_registered_method)
        return _Unary(method, call, response_deserializer.__self__)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)


class _Unary:
    """A unary method of a stub."""

    def __init__(self, method: str, call: Any, answer: type[Message]) -> None:
        self._method = method
        self._call = call
        self._answer = answer

    async def __call__(
        self,
        request: Message | bytes,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - it takes what a stub of gRPC takes
    ) -> Message | None:
        """Return the answer, or None, as gRPC does, where the bytes are no such message. `timeout` in seconds.

        A request may be serialized already. Raises AioRpcError.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        data = request if isinstance(request, bytes) else await pack_message(request)
        left = None if timeout is None else max(_LEAST_S, timeout - (loop.time() - began))
        answer: bytes = await self._call(data, timeout=left)
        try:
            if len(answer) <= INLINE_BYTES:
                return self._answer.FromString(answer)
            parsed: Message = await asyncio.to_thread(parse_in_pieces, self._answer, answer)
        except DecodeError as error:
            log.warning("an answer cannot be parsed", method=self._method, error=str(error))
            return None
        return parsed
