"""A router that answers what a test tells it: every method of the contracts, with faults."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from google.protobuf import message_factory
from google.protobuf.message import Message

from lensmesh_chassis import contract
from lensmesh_chassis.errors import LensmeshError
from lensmesh_chassis.rpc.status import abort

Answer = Message | LensmeshError | list[Any] | Callable[[Any], Any]
"""A message; a list of them, for a method that streams (an error in it ends the stream, an event is waited for); an
error; or what makes one of these out of the request."""


class FakeRouter(grpc.GenericRpcHandler):
    """Answers of all methods, by their name. One that is not set is an empty message, or an empty stream."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.requests: dict[str, list[Any]] = {}
        """The requests of each method, as they came."""
        self.metadata: list[dict[str, Any]] = []
        """The metadata of each call."""
        self.time_left: list[float | None] = []
        self.hold: asyncio.Event | None = None
        """Calls wait for it where it is set."""
        self.held_methods: set[str] = set()
        """Those that wait for it; none means all."""
        self.entered = 0
        self.holding = 0
        """Calls that wait for `hold` now."""
        self.cancelled = 0
        self._methods = {
            f"/{service.full_name}/{method.name}": method
            for service in contract.services()
            for method in service.methods
        }
        self._server: grpc.aio.Server | None = None
        self.address = ""

    def service(self, details: Any) -> Any:
        """Return the handler of one method."""
        method = self._methods.get(details.method)
        if method is None:
            return None
        parse = message_factory.GetMessageClass(method.input_type).FromString
        if method.client_streaming:

            async def both(requests: Any, context: Any) -> AsyncIterator[Any]:
                await self._enter(method.name, None, context)
                async for request in requests:
                    self.requests.setdefault(method.name, []).append(request)
                    for one in await self._made(method, request):
                        yield await self._told(one, context)

            return grpc.stream_stream_rpc_method_handler(both, parse, _bytes)
        if method.server_streaming:

            async def many(request: Any, context: Any) -> AsyncIterator[Any]:
                await self._enter(method.name, request, context)
                for one in await self._made(method, request):
                    if isinstance(one, asyncio.Event):
                        await one.wait()
                        continue
                    yield await self._told(one, context)

            return grpc.unary_stream_rpc_method_handler(many, parse, _bytes)

        async def single(request: Any, context: Any) -> Any:
            await self._enter(method.name, request, context)
            (one,) = await self._made(method, request)
            return await self._told(one, context)

        return grpc.unary_unary_rpc_method_handler(single, parse, _bytes)

    async def _enter(self, name: str, request: Any, context: Any) -> None:
        self.entered += 1
        if request is not None:
            self.requests.setdefault(name, []).append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        self.time_left.append(context.time_remaining())
        if self.hold is not None and (not self.held_methods or name in self.held_methods):
            self.holding += 1
            try:
                await self.hold.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
            finally:
                self.holding -= 1

    async def _made(self, method: Any, request: Any) -> list[Any]:
        answer: Any = self.answers.get(method.name)
        if callable(answer):
            answer = answer(request)
        if answer is None:
            empty = message_factory.GetMessageClass(method.output_type)()
            return [] if method.server_streaming else [empty]
        return answer if isinstance(answer, list) else [answer]

    async def _told(self, one: Any, context: Any) -> Any:
        if isinstance(one, BaseException):
            await abort(context, one)
        return one

    async def start(self, port: int = 0) -> None:
        """Listen, on a free port unless one is given."""
        self._server = grpc.aio.server(handlers=(self,), options=[("grpc.so_reuseport", 0)])
        self.address = f"127.0.0.1:{self._server.add_insecure_port(f'127.0.0.1:{port}')}"
        await self._server.start()

    async def stop(self) -> None:
        """End all calls and be gone."""
        if self._server is not None:
            await self._server.stop(0)
            self._server = None


def _bytes(message: Message) -> bytes:
    return message.SerializeToString()
