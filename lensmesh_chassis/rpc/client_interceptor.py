"""One base for interceptors of calls that are made, whatever their shape. For served calls see handlers.py."""

from abc import ABC, abstractmethod
from typing import Any

import grpc


class ClientInterceptor(ABC):
    """Base of an interceptor: what is done around each call that a channel makes."""

    @abstractmethod
    async def make_call(self, shape: str, continuation: Any, details: Any, request: Any) -> Any:
        """Make the call by `await continuation(details, request)` and return it.

        `shape`: "unary", "server_stream", "client_stream" or "bidi_stream". `request`: the message, or the iterator of
        them where requests are streamed.
        """

    def of_all_shapes(self) -> tuple[grpc.aio.ClientInterceptor, ...]:
        """Return the interceptors to give to a channel, one for each shape.

        gRPC would use one object that has several shapes for the first of them only.
        """
        return (_UnaryUnary(self), _UnaryStream(self), _StreamUnary(self), _StreamStream(self))


class _Shaped:
    def __init__(self, owner: ClientInterceptor) -> None:
        self._owner = owner


class _UnaryUnary(_Shaped, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await self._owner.make_call("unary", continuation, client_call_details, request)


class _UnaryStream(_Shaped, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await self._owner.make_call("server_stream", continuation, client_call_details, request)


class _StreamUnary(_Shaped, grpc.aio.StreamUnaryClientInterceptor):
    async def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await self._owner.make_call("client_stream", continuation, client_call_details, request_iterator)


class _StreamStream(_Shaped, grpc.aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await self._owner.make_call("bidi_stream", continuation, client_call_details, request_iterator)
