"""One base for interceptors of calls that are served, whatever their shape and whichever style their handler has."""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass
from typing import Any, cast

import grpc

from lensmesh_chassis.errors import InternalFault
from lensmesh_chassis.reasons import Reason

# Behaviours take (request or request iterator, context). Messages of every service pass here: their types are the
# stubs' matter.
Unary = Callable[[Any, Any], Awaitable[Any]]
Streaming = Callable[[Any, Any], AsyncIterator[Any]]

_INFRASTRUCTURE = ("/grpc.health.", "/grpc.reflection.")


@dataclass(frozen=True)
class Rpc:
    """One call as interceptors see it before it runs."""

    method: str  # "/package.Service/Method"
    metadata: Any
    request_streaming: bool
    response_streaming: bool

    @property
    def service(self) -> str:
        """The full name of the service."""
        return self.method.rpartition("/")[0].lstrip("/")

    @property
    def name(self) -> str:
        """The method's name alone."""
        return self.method.rpartition("/")[2]

    @property
    def type(self) -> str:
        """The shape, by the name that metrics use."""
        return (
            ("bidi_stream" if self.response_streaming else "client_stream")
            if self.request_streaming
            else ("server_stream" if self.response_streaming else "unary")
        )

    @property
    def infrastructure(self) -> bool:
        """Whether the call is health or reflection: these are answered while draining, and are not traced."""
        return is_infrastructure(self.method)


def is_infrastructure(method: str) -> bool:
    """Tell whether the path belongs to health or reflection."""
    return method.startswith(_INFRASTRUCTURE)


class Interceptor(grpc.aio.ServerInterceptor):
    """Base of the chassis' interceptors.

    `around` is entered before a handler runs, and left when it has ended in any way.
    """

    def around(self, rpc: Rpc, context: Any) -> AbstractAsyncContextManager[None]:
        """Return the context in which the handler runs.

        An exception of the handler passes through it; where a stream is closed early, that is GeneratorExit.
        """
        raise NotImplementedError

    def adapt(self, _rpc: Rpc, handler: Any) -> Any:
        """Return the handler to run instead of `handler`, of the same shape."""
        return handler

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        rpc = Rpc(
            handler_call_details.method,
            handler_call_details.invocation_metadata,
            handler.request_streaming,
            handler.response_streaming,
        )
        handler = self.adapt(rpc, handler)
        if rpc.response_streaming:
            return rebuilt(handler, self._streaming(rpc, streaming(handler)))
        return rebuilt(handler, self._unary(rpc, unary(handler)))

    def _unary(self, rpc: Rpc, run: Unary) -> Unary:
        async def unary_behaviour(request: Any, context: Any) -> Any:
            async with self.around(rpc, context):
                return await run(request, context)

        return unary_behaviour

    def _streaming(self, rpc: Rpc, run: Streaming) -> Streaming:
        async def streaming_behaviour(request: Any, context: Any) -> AsyncIterator[Any]:
            responses: Any = run(request, context)
            async with self.around(rpc, context), aclosing(responses):
                async for response in responses:
                    yield response

        return streaming_behaviour


def unary(handler: Any) -> Unary:
    """Return the behaviour of a handler that answers one message."""
    run = handler.stream_unary if handler.request_streaming else handler.unary_unary
    return run if inspect.iscoroutinefunction(run) else _refuse


def streaming(handler: Any) -> Streaming:
    """Return the behaviour of a handler that answers a stream, always as an async generator function."""
    run: Any = handler.stream_stream if handler.request_streaming else handler.unary_stream
    if inspect.isasyncgenfunction(run):
        return cast("Streaming", run)
    if not inspect.iscoroutinefunction(run):
        run = _refuse

    async def generator(request: Any, context: Any) -> AsyncIterator[Any]:
        # It writes by context.write(): nothing is left to yield.
        await run(request, context)
        return
        yield  # what makes it a generator

    return generator


async def _refuse(_request: Any, _context: Any) -> Any:
    """Stand in for a handler that is a plain function, and raise.

    gRPC would run such a function in a thread pool, out of reach of cancellation and context.
    """
    raise InternalFault(
        Reason.INTERNAL, "this method is not written as a coroutine or an async generator; services must be"
    )


def rebuilt(handler: Any, behaviour: Any, **changes: Any) -> Any:
    """Return a handler of the same shape and codecs with another behaviour.

    `changes`: request_deserializer, response_serializer.
    """
    make = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[handler.request_streaming, handler.response_streaming]
    codecs = {
        "request_deserializer": handler.request_deserializer,
        "response_serializer": handler.response_serializer,
    }
    return make(behaviour, **(codecs | changes))
