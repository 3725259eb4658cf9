"""The serving of calls: what stands around each of them, in one place.

gRPC's own interceptors would be asked at each call, and build the call's way anew out of closures and handlers. Here
the way of a method's calls is composed once.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, NoReturn

import grpc

from lensmesh_chassis.messages.budget import MessageBudget
from lensmesh_chassis.messages.flow import Count, MessageFlow
from lensmesh_chassis.messages.unread import AnswerRoom, CallOverError, use_answer_room
from lensmesh_chassis.rpc.call_code import outcome
from lensmesh_chassis.rpc.disconnect import DisconnectDetector
from lensmesh_chassis.rpc.handlers import Begin, End, Interceptor, RpcMethod, streaming, unary, writes_itself
from lensmesh_chassis.rpc.status import abort


def _count_none(_size: int) -> None:
    pass


def _is_no_broken_off_call(record: logging.LogRecord) -> bool:
    """Leave out of gRPC's log what it calls an error: a call that ended before its caller had taken the answer."""
    return not (record.exc_info and isinstance(record.exc_info[1], grpc.aio.InternalError))


class ServedMethods(grpc.GenericRpcHandler):
    """The methods of a server. It takes their handlers as a server does, and is itself what gRPC asks for them.

    `interceptors` take part in each call, outermost first. `counts` tells what counts a method's messages, received and
    sent.
    """

    def __init__(
        self,
        interceptors: Sequence[Interceptor],
        budget: MessageBudget,
        *,
        max_message_bytes: int,
        counts: Callable[[RpcMethod], tuple[Count, Count]] = lambda _: (_count_none, _count_none),
    ) -> None:
        self._interceptors, self._budget = interceptors, budget
        self._max_message_bytes, self._counts = max_message_bytes, counts
        logging.getLogger("grpc._cython.cygrpc").addFilter(_is_no_broken_off_call)
        self._handlers: list[grpc.GenericRpcHandler] = []
        self._composed: dict[str, Any] = {}

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Take handlers, as grpc.aio.Server does."""
        self._handlers.extend(generic_rpc_handlers)

    def add_registered_method_handlers(self, service_name: str, method_handlers: Mapping[str, Any]) -> None:
        """Do nothing: generated code gives the same handlers a second time.

        gRPC would wait for calls of each of these methods apart, and begin all these waits anew at each call.
        """

    def service(self, handler_call_details: Any) -> Any:
        """Return the handler of a method, with all that stands around it; None where there is no such method."""
        path = handler_call_details.method
        if (composed := self._composed.get(path)) is not None:
            return composed
        for each in self._handlers:
            if (handler := each.service(handler_call_details)) is not None:
                return self._compose(path, handler)
        return None

    def _compose(self, path: str, handler: Any) -> Any:
        method = RpcMethod(path, handler.request_streaming, handler.response_streaming)
        begins = [begin for each in self._interceptors if (begin := each.around(method)) is not None]
        messages = MessageFlow(
            method, handler, self._budget, self._counts(method), max_message_bytes=self._max_message_bytes
        )
        composed = self._composed[path] = _Calls(method, handler, begins, messages, self._budget).handler
        return composed


class _Calls:
    """The calls of one method, from the outside in.

    Every call is a stream of requests to gRPC, which is the same on the wire. gRPC reads the request of a unary call
    before it runs any handler; the requests of a stream are read by the handler. So a call can be refused without its
    message, and be told why.
    """

    def __init__(
        self, method: RpcMethod, handler: Any, begins: Sequence[Begin], messages: MessageFlow, budget: MessageBudget
    ) -> None:
        self._path, self._streamed = method.path, method.request_streaming
        self._begins, self._messages, self._budget = begins, messages, budget
        if method.response_streaming:
            self._run_streaming = streaming(handler)
            self.handler: Any = grpc.stream_stream_rpc_method_handler(
                self._write_answers, messages.deserialize, messages.serialize if writes_itself(handler) else None
            )
        else:
            self._run = unary(handler)
            self.handler = grpc.stream_unary_rpc_method_handler(self._answer, messages.deserialize)

    async def _answer(self, _requests: Any, context: Any) -> bytes:
        """Serve a call with one answer."""
        ends: list[End] = []
        room, account = AnswerRoom(self._budget.reserve), self._budget.account(self._path)
        use_answer_room(room)
        try:
            self._begin(context, ends)
            if self._streamed:
                detector = DisconnectDetector()
                response = await self._run(self._messages.requests(context, account, detector), context)
                await detector.news()
            else:
                response = await self._run(await self._messages.request(context, account), context)
            data = await self._messages.pack(response)
            # The parts of a message take ten times as many bytes as they are packed into.
            del response
            await self._messages.make_room(data, context, room)
        except BaseException as error:  # noqa: BLE001 - it is raised again
            await _fail(error, ends, context)
        finally:
            room.leave()
            account.drop()
        _end(ends, None, outcome(None, context))
        return data

    async def _write_answers(self, _requests: Any, context: Any) -> None:
        """Serve a call with a stream of answers."""
        ends: list[End] = []
        detector, account = DisconnectDetector(), self._budget.account(self._path)
        try:
            self._begin(context, ends)
            request = (
                self._messages.requests(context, account, detector)
                if self._streamed
                else await self._messages.request(context, account)
            )
            responses: Any = self._run_streaming(request, context)
            # What it holds it would hold for as long as it answers.
            del request
            async with aclosing(responses):
                async for response in responses:
                    data = await self._messages.pack(response)
                    del response
                    await self._messages.write(data, context)
            await detector.news()
        except BaseException as error:  # noqa: BLE001 - it is raised again
            await _fail(error, ends, context)
        finally:
            account.drop()
        _end(ends, None, outcome(None, context))

    def _begin(self, context: Any, ends: list[End]) -> None:
        for begin in self._begins:
            if (end := begin(context)) is not None:
                ends.append(end)


async def _fail(error: BaseException, ends: Sequence[End], context: Any) -> NoReturn:
    """End a call that raised an error, with its status. Interceptors learn of it when its code is known."""
    try:
        await _tell(error, context)
    except BaseException as told:
        _end(ends, error, outcome(told, context))
        raise


async def _tell(error: BaseException, context: Any) -> NoReturn:
    """Turn what was raised into a status, whatever it is: the caller gets INTERNAL and the log gets the rest."""
    task = asyncio.current_task()
    if isinstance(error, asyncio.CancelledError):
        # Where something inside was cancelled, and not the call, gRPC would never answer it.
        inside = not isinstance(error, CallOverError) and not (task is not None and task.cancelling())
    else:
        inside = isinstance(error, Exception) and not isinstance(error, grpc.aio.AbortError)
    if inside:
        await abort(context, error)
    raise error


def _end(ends: Sequence[End], error: BaseException | None, code: grpc.StatusCode) -> None:
    for end in reversed(ends):
        end(error, code)
