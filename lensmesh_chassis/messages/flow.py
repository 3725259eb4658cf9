"""The way of a method's messages, in and out: one at a time, when there is room, in calls of any shape."""

import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message

from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.limits import check_size
from lensmesh_chassis.messages.budget import SMALL_BYTES, CallAccount, MessageBudget
from lensmesh_chassis.messages.packing import pack_message
from lensmesh_chassis.messages.parsing import INLINE_BYTES, parse_message
from lensmesh_chassis.messages.peer_connection import end_connection
from lensmesh_chassis.messages.unread import AnswerRoom, CallOverError
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.disconnect import DisconnectDetector
from lensmesh_chassis.rpc.handlers import RpcMethod
from lensmesh_chassis.rpc.request_id import request_bytes

_log = logging.getLogger(__name__)

Count = Callable[[int], None]
"""Is told the size of a message."""


class MessageFlow:
    """The messages of one method: requests are read and parsed, answers are serialized and sent, all within the budget.

    The request of a unary call is done with when the call ends. A request of a stream is done with when the next one is
    asked for: whatever the service has kept of it by then, the service counts.
    """

    def __init__(
        self,
        method: RpcMethod,
        handler: Any,
        budget: MessageBudget,
        counts: tuple[Count, Count],
        *,
        max_message_bytes: int,
    ) -> None:
        self._path, self._budget, self._max_message_bytes = method.path, budget, max_message_bytes
        self._received, self._sent = counts
        self._parse, self._pack = handler.request_deserializer, handler.response_serializer
        # Generated code gives the class method FromString: its class parses a large message in pieces.
        cls = getattr(self._parse, "__self__", None)
        self._cls = cls if isinstance(cls, type) and issubclass(cls, Message) else None
        # And a message's own method, which can be done in pieces too.
        self._in_pieces = getattr(self._pack, "__name__", "") == "SerializeToString"
        self._at_once = min(INLINE_BYTES, max_message_bytes)

    def deserialize(self, data: bytes) -> Any:
        """Make a request of its bytes, for gRPC. One that is large or no message is left to be parsed later.

        Of gRPC's own parsing a caller would get UNKNOWN with the exception's text.
        """
        self._received(len(data))
        request_bytes.set(len(data))
        if self._cls is None:
            return self._parse(data) if self._parse else data
        if len(data) <= self._at_once:
            with contextlib.suppress(DecodeError):
                return self._parse(data)
        return _Unparsed(data)

    async def request(self, context: Any, account: CallAccount) -> Any:
        """Read the one request of a call. Raises Overloaded, InvalidInput."""
        message = await self._budget.receive(self._path, context.read)
        if message is grpc.aio.EOF:
            raise InvalidInput(Reason.MESSAGE_MALFORMED, "the call carries no message: send one request")
        await account.work_on(request_bytes.get())
        return await self._parsed(message) if isinstance(message, _Unparsed) else message

    async def requests(self, context: Any, account: CallAccount, detector: DisconnectDetector) -> AsyncIterator[Any]:
        """Yield the requests of a stream as they arrive; `detector` learns of their end. Raises as `request` does."""
        largest: int | None = None
        while True:
            account.drop()
            message = await self._budget.receive(self._path, context.read, largest=largest, patient=largest is not None)
            if message is grpc.aio.EOF:
                detector.requests_ended()
                return
            # Of the message read last: nothing has run in between.
            size = request_bytes.get()
            largest = max(largest or 0, size)
            await account.work_on(size, patient=True)
            yield await self._parsed(message) if isinstance(message, _Unparsed) else message

    async def _parsed(self, message: "_Unparsed") -> Any:
        # Nobody keeps its bytes beside the message that is made of them.
        data, message.data = message.data, b""
        check_size(len(data), self._max_message_bytes)
        return await parse_message(self._cls, data)

    def serialize(self, response: Any) -> bytes:
        """Return an answer as bytes."""
        data: bytes = self._pack(response) if self._pack else response
        self._sent(len(data))
        return data

    async def pack(self, response: Any) -> bytes:
        """Return an answer as bytes; a large one is serialized in pieces."""
        if not self._in_pieces:
            return self.serialize(response)
        data = await pack_message(response)
        self._sent(len(data))
        return data

    async def make_room(self, data: bytes, context: Any, room: AnswerRoom) -> None:
        """Wait until gRPC may have the one answer of a call. Raises Overloaded where there is no room for it.

        It holds its room until gRPC is done with the call.
        """
        if len(data) < SMALL_BYTES:
            return
        # Asked now: once the call is over there is no peer any more.
        peer = context.peer()
        over = await self._budget.begin_answer(len(data), room, lambda: self._end(peer))
        context.add_done_callback(lambda _: over())

    async def write(self, data: bytes, context: Any) -> None:
        """Send one answer of a stream. Raises Overloaded where there is no room for it, CallOverError after its end.

        By a write of gRPC, so that a cancelled call unwinds its handler at once, in its own task. gRPC would drop a
        generator that waits at a `yield` and leave it to the garbage collector, which closes it later and in another
        task. Then work goes on for a client that left, and its span cannot end in its own context. And whatever then
        asks the context for its peer crashes the process, since the call under it is gone.
        """
        try:
            if len(data) < SMALL_BYTES:
                await context.write(data)
            else:
                peer = context.peer()
                await self._budget.send(len(data), lambda: context.write(data), end=lambda: self._end(peer))
        except grpc.aio.InternalError:
            raise CallOverError from None

    def _end(self, peer: str) -> None:
        ended = end_connection(peer)
        _log.info(
            "an answer is not read while others wait",
            extra={"method": self._path, "peer": peer, "connection": "ended" if ended else "cannot be ended"},
        )


@dataclass(slots=True)
class _Unparsed:
    """Stand-in for a message that is too large to be parsed on the event loop, or whose bytes are no message."""

    data: bytes
