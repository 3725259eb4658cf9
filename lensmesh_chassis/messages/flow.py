"""Interceptors that all messages pass on their way in and out: one at a time, when there is room, in any call."""

import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, aclosing, contextmanager, nullcontext
from typing import Any

import grpc
from google.protobuf.message import Message

from lensmesh_chassis.errors import InvalidInput, LensmeshError
from lensmesh_chassis.messages.budget import SMALL_BYTES, CallAccount, MessageBudget
from lensmesh_chassis.messages.packing import pack_message
from lensmesh_chassis.messages.peer_connection import end_connection
from lensmesh_chassis.messages.unread import AnswerRoom, use_answer_room, written
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.handlers import Interceptor, Rpc, rebuilt, streaming, unary
from lensmesh_chassis.rpc.status import abort

_log = logging.getLogger(__name__)


class UnreadRequest:
    """The one request of a call while it is not read: interceptors see this until the call is admitted."""

    def __init__(self, context: Any) -> None:
        self._context = context

    async def read(self) -> Any:
        """Read and return the message, or grpc.aio.EOF where the caller sends none."""
        return await self._context.read()


class MessagesOut(grpc.aio.ServerInterceptor):
    """Interceptor that makes every call a stream to gRPC, which is the same on the wire. To be the first in the list.

    gRPC reads the request of a unary call before it runs any handler; the requests of a stream are read by the handler.
    So a call can be refused without its message, and be told why.

    Answers are sent by context.write(), so that a cancelled call unwinds its generators at once, in its own task.
    Otherwise gRPC drops a generator that waits at a `yield` and leaves it to the garbage collector, which closes it
    later and in another task. Then work goes on for a client that left, and its span cannot end in its own context. And
    whatever then asks the context for its peer crashes the process, since the call under it is gone.
    """

    def __init__(self, budget: MessageBudget) -> None:
        self._budget = budget

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method, budget, serialize = handler_call_details.method, self._budget, handler.response_serializer

        def packed(response: Any) -> Any:
            """Return the response as bytes.

            A handler that writes its answers itself passes messages, any other one bytes.
            """
            return response if isinstance(response, bytes) or serialize is None else serialize(response)

        def received(requests: Any, context: Any) -> Any:
            return requests if handler.request_streaming else UnreadRequest(context)

        async def send(response: Any, context: Any, place: AnswerRoom) -> None:
            # Generated code serializes by a message's own method.
            own = isinstance(response, Message) and getattr(serialize, "__name__", "") == "SerializeToString"
            data = await pack_message(response) if own else packed(response)
            # The parts of a message take ten times as many bytes as they are packed into.
            del response
            size = len(data)
            # Asked now: once the call is over there is no peer any more.
            peer = context.peer() if size >= SMALL_BYTES else ""
            try:
                await budget.send(
                    size, lambda: written(context.write(data)), place=place, end=lambda: _end(peer, method)
                )
            except LensmeshError as error:
                # Metrics and spans have seen the answer and told OK of it; lensmesh_refused_calls_total tells of this.
                await abort(context, error)

        @contextmanager
        def placed() -> Iterator[AnswerRoom]:
            place = AnswerRoom()
            use_answer_room(lambda most_bytes: budget.reserve(place, most_bytes))
            try:
                yield place
            finally:
                place.leave()

        if handler.response_streaming:
            run_streaming = streaming(handler)

            async def answer(requests: Any, context: Any) -> None:
                responses: Any = run_streaming(received(requests, context), context)
                async with aclosing(responses):
                    async for response in responses:
                        await send(response, context, AnswerRoom())

        else:
            run_unary = unary(handler)

            async def answer(requests: Any, context: Any) -> None:
                with placed() as place:
                    await send(await run_unary(received(requests, context), context), context, place)

        return grpc.stream_stream_rpc_method_handler(answer, handler.request_deserializer, packed)


class MessagesIn(Interceptor):
    """Interceptor that reads requests as the budget allows, and counts each until it is done with.

    To be inside of the interceptor that admits calls. The request of a unary call is done with when the call ends. A
    request of a stream is done with when the next one is asked for: whatever the service has kept of it by then, the
    service counts.
    """

    def __init__(self, budget: MessageBudget) -> None:
        self._budget = budget
        # Of the message read last: a message is parsed, and its reader runs on, without anything between.
        self._size = 0

    def around(self, _rpc: Rpc, _context: Any) -> AbstractAsyncContextManager[None]:
        return nullcontext()

    def adapt(self, rpc: Rpc, handler: Any) -> Any:
        parse = handler.request_deserializer

        def deserialize(data: bytes) -> Any:
            self._size = len(data)
            return parse(data) if parse else data

        if rpc.response_streaming:
            run_streaming = streaming(handler)

            async def respond(requests: Any, context: Any) -> AsyncIterator[Any]:
                with self._budget.account(rpc.method) as account:
                    responses: Any = run_streaming(await self._read(rpc, requests, context, account), context)
                    async with aclosing(responses):
                        async for response in responses:
                            yield response

            return rebuilt(handler, respond, request_deserializer=deserialize)
        run = unary(handler)

        async def answer(requests: Any, context: Any) -> Any:
            with self._budget.account(rpc.method) as account:
                return await run(await self._read(rpc, requests, context, account), context)

        return rebuilt(handler, answer, request_deserializer=deserialize)

    async def _read(self, rpc: Rpc, requests: Any, context: Any, account: CallAccount) -> Any:
        """Return the request of a unary call, or an iterator over those of a stream as they arrive."""
        if rpc.request_streaming:
            return self._each(rpc, requests, account)
        try:
            message = await self._budget.receive(rpc.method, requests.read)
            if message is grpc.aio.EOF:
                raise InvalidInput(Reason.MESSAGE_MALFORMED, "the call carries no message: send one request")
            await account.work_on(self._size)
        except LensmeshError as error:
            await abort(context, error)
        return message

    async def _each(self, rpc: Rpc, requests: Any, account: CallAccount) -> AsyncIterator[Any]:
        rest, largest = aiter(requests), None
        while True:
            account.drop()
            message = await self._budget.receive(
                rpc.method, _reader(rest), largest=largest, patient=largest is not None
            )
            if message is grpc.aio.EOF:
                return
            largest = max(largest or 0, self._size)
            await account.work_on(self._size, patient=True)
            yield message


def _end(peer: str, method: str) -> None:
    ended = end_connection(peer)
    _log.info(
        "an answer is not read while others wait",
        extra={"method": method, "peer": peer, "connection": "ended" if ended else "cannot be ended"},
    )


def _reader(rest: AsyncIterator[Any]) -> Callable[[], Any]:
    return lambda: anext(rest, grpc.aio.EOF)
