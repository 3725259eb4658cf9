"""A method that is served, the behaviour of its handler, and the one base of what takes part in its calls."""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol, cast

import grpc

from lensmesh_chassis.errors import InternalFault
from lensmesh_chassis.reasons import Reason

# Behaviours take (request or request iterator, context). Messages of every service pass here: their types are the
# stubs' matter.
Unary = Callable[[Any, Any], Awaitable[Any]]
Streaming = Callable[[Any, Any], AsyncIterator[Any]]

End = Callable[[BaseException | None, grpc.StatusCode], None]
"""Takes what ended a call, None where nothing was raised, and the code that the caller sees."""
Begin = Callable[[Any], End | None]
"""Takes the context of a call that begins. Returns what its end is told to; None where that is of no interest."""

_INFRASTRUCTURE = ("/grpc.health.", "/grpc.reflection.")


@dataclass(frozen=True)
class RpcMethod:
    """A method that a server has."""

    path: str  # "/package.Service/Method"
    request_streaming: bool
    response_streaming: bool

    @property
    def service(self) -> str:
        """The full name of the service."""
        return self.path.rpartition("/")[0].lstrip("/")

    @property
    def name(self) -> str:
        """The method's name alone."""
        return self.path.rpartition("/")[2]

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
        """True for health and reflection: these are answered while draining, and are not traced."""
        return is_infrastructure(self.path)


def is_infrastructure(path: str) -> bool:
    """Tell whether the path of a method belongs to health or reflection."""
    return path.startswith(_INFRASTRUCTURE)


class Interceptor(Protocol):
    """Something that takes part in calls, from before their message is read until their handler has ended."""

    def around(self, method: RpcMethod) -> Begin | None:
        """Return what each call of the method begins with; None to take no part in them.

        Asked once for each method. A call is refused by a ``LensmeshError`` out of what is returned.
        """


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


def writes_itself(handler: Any) -> bool:
    """Tell whether a handler that answers a stream does so by context.write()."""
    return inspect.iscoroutinefunction(handler.stream_stream if handler.request_streaming else handler.unary_stream)


async def _refuse(_request: Any, _context: Any) -> Any:
    """Stand in for a handler that is a plain function, and raise.

    gRPC would run such a function in a thread pool, out of reach of cancellation and context.
    """
    raise InternalFault(
        Reason.INTERNAL, "this method is not written as a coroutine or an async generator; services must be"
    )
