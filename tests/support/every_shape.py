"""A service with a method of every shape and style, whose faults are attributes."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

import grpc
from google.protobuf.wrappers_pb2 import StringValue

from lensmesh.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from lensmesh_chassis.process.server import Runtime
from lensmesh_chassis.rpc.request_id import request_id
from lensmesh_chassis.rpc.streams import answer_as_ready
from lensmesh_chassis.settings import ServiceSettings

SHAPES = "lensmesh.test.v1.Shapes"
ENCODER = encoder_pb2.DESCRIPTOR.services_by_name["EncoderService"].full_name

# Method -> (requests are streamed, responses are streamed). "Written" ones use context.read() and context.write().
METHODS = {
    "UnaryUnary": (False, False),
    "UnaryStream": (False, True),
    "StreamUnary": (True, False),
    "StreamStream": (True, True),
    "UnaryStreamWritten": (False, True),
    "StreamStreamWritten": (True, True),
}


def settings(**changes: Any) -> ServiceSettings:
    """Settings of a server on a free port that does not keep a test waiting."""
    values: dict[str, Any] = {"listen": "127.0.0.1:0", "instance": "test", "drain_seconds": 10.0}
    return ServiceSettings(**(values | changes))


class Shapes:
    """Echoes. `fault` is raised after the first message was handled; `hold` keeps calls inside until it is set;
    `abort_with` ends a call by gRPC's own means.
    """

    def __init__(self) -> None:
        self.abort_with: grpc.StatusCode | None = None
        self.fault: BaseException | None = None
        self.hold: asyncio.Event | None = None
        self.entered = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.closed = asyncio.Event()
        self.request_ids: list[str] = []
        self.peers: list[str] = []
        self.remaining: list[float | None] = []

    async def _work(self, context: Any) -> None:
        self.request_ids.append(request_id.get())
        self.peers.append(context.peer())
        self.remaining.append(context.time_remaining())
        self.entered.set()
        try:
            if self.hold is not None:
                await self.hold.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        if self.abort_with is not None:
            await context.abort(self.abort_with, "as told")
        if self.fault is not None:
            raise self.fault

    async def unary_unary(self, request: StringValue, context: Any) -> StringValue:
        await self._work(context)
        return request

    async def unary_stream(self, request: StringValue, context: Any) -> AsyncIterator[StringValue]:
        try:
            yield request
            await self._work(context)
            while True:
                yield request
                if request.value != "forever":
                    return
        finally:
            self.closed.set()

    async def stream_unary(self, requests: AsyncIterator[StringValue], context: Any) -> StringValue:
        texts = [request.value async for request in requests]
        await self._work(context)
        return StringValue(value=",".join(texts))

    async def stream_stream(self, requests: AsyncIterator[StringValue], context: Any) -> AsyncIterator[StringValue]:
        async for request in requests:
            yield request
            await self._work(context)

    async def unary_stream_written(self, request: StringValue, context: Any) -> None:
        await context.write(request)
        await self._work(context)
        await context.write(request)

    async def stream_stream_written(self, _requests: Any, context: Any) -> None:
        while (request := await context.read()) is not grpc.aio.EOF:
            await context.write(request)
            await self._work(context)

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register all methods under lensmesh.test.v1.Shapes."""
        codecs: Any = {
            "request_deserializer": StringValue.FromString,
            "response_serializer": StringValue.SerializeToString,
        }
        unary_stream, stream_stream = grpc.unary_stream_rpc_method_handler, grpc.stream_stream_rpc_method_handler
        handlers: dict[str, Any] = {
            "UnaryUnary": grpc.unary_unary_rpc_method_handler(self.unary_unary, **codecs),
            "UnaryStream": unary_stream(self.unary_stream, **codecs),
            "StreamUnary": grpc.stream_unary_rpc_method_handler(self.stream_unary, **codecs),
            "StreamStream": stream_stream(self.stream_stream, **codecs),
            "UnaryStreamWritten": unary_stream(self.unary_stream_written, **codecs),
            "StreamStreamWritten": stream_stream(self.stream_stream_written, **codecs),
            "Synchronous": grpc.unary_unary_rpc_method_handler(lambda request, _: request, **codecs),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SHAPES, handlers),))


class Encoder(encoder_pb2_grpc.EncoderServiceServicer):
    """An EncoderService that tells its process and, otherwise, what it is told to."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.faults: list[BaseException] = []
        self.calls = 0
        # For the stream: refs that are being answered, how many were read, and what keeps the answers back.
        self.running: set[str] = set()
        self.read = 0
        self.hold: asyncio.Event | None = None

    async def GetInfo(self, _request: Any, _context: Any) -> encoder_pb2.GetInfoResponse:
        self.calls += 1
        if self.faults:
            raise self.faults.pop(0)
        return encoder_pb2.GetInfoResponse(server=self.runtime.server_info())

    async def EncodeImages(self, _request: Any, _context: Any) -> encoder_pb2.EncodeImagesResponse:
        self.calls += 1
        if self.faults:
            raise self.faults.pop(0)
        return encoder_pb2.EncodeImagesResponse()

    async def EncodeTexts(self, _request: Any, _context: Any) -> encoder_pb2.EncodeTextsResponse:
        return encoder_pb2.EncodeTextsResponse()

    async def ClassifyImages(self, _request: Any, _context: Any) -> encoder_pb2.ClassifyImagesResponse:
        return encoder_pb2.ClassifyImagesResponse()

    async def EncodeStream(
        self, requests: AsyncIterator[encoder_pb2.EncodeStreamRequest], _context: Any
    ) -> AsyncIterator[encoder_pb2.EncodeStreamResponse]:
        groups: Any = answer_as_ready(
            self._items(requests),
            self._answer,
            size_of=lambda item: item.ByteSize(),
            max_items=32,
            max_bytes=1_000_000,
            draining=self.runtime.draining,
        )
        async with aclosing(groups):
            async for group in groups:
                yield encoder_pb2.EncodeStreamResponse(results=group)

    async def _items(
        self, requests: AsyncIterator[encoder_pb2.EncodeStreamRequest]
    ) -> AsyncIterator[encoder_pb2.EncodeStreamItem]:
        async for request in requests:
            for item in request.items:
                self.read += 1
                yield item

    async def _answer(self, item: encoder_pb2.EncodeStreamItem) -> encoder_pb2.EncodeStreamResult:
        self.running.add(item.ref)
        try:
            if self.hold is not None:
                await self.hold.wait()
            return encoder_pb2.EncodeStreamResult(ref=item.ref)
        finally:
            self.running.discard(item.ref)


class FakeApp:
    """Serves Shapes and an Encoder. `start_fault` is raised by start; `hold_start` keeps it until set."""

    def __init__(self, runtime: Runtime[Any]) -> None:
        self.runtime = runtime
        self.shapes, self.encoder = Shapes(), Encoder(runtime)
        self.start_fault: BaseException | None = None
        self.hold_start: asyncio.Event | None = None
        self.not_serving_at_start = ""
        self.log: list[str] = []
        self.tasks: list[asyncio.Task[None]] = []

    def register(self, server: grpc.aio.Server) -> Sequence[str]:
        self.shapes.add_to(server)
        encoder_pb2_grpc.add_EncoderServiceServicer_to_server(self.encoder, server)
        return [ENCODER, SHAPES]

    async def start(self) -> None:
        self.log.append("start")
        if self.hold_start is not None:
            await self.hold_start.wait()
        if self.start_fault is not None:
            raise self.start_fault
        if self.not_serving_at_start:
            self.runtime.health.not_serving(ENCODER, self.not_serving_at_start)
        self.log.append("started")

    async def stop(self) -> None:
        self.log.append("stop")
        for task in self.tasks:
            task.cancel()


def call(channel: grpc.aio.Channel, method: str, texts: Sequence[str] = ("a",), **options: Any) -> Any:
    """Begin a call of any shape; `options` as a stub takes them."""
    streamed_in, streamed_out = METHODS.get(method, (False, False))
    make = getattr(channel, f"{'stream' if streamed_in else 'unary'}_{'stream' if streamed_out else 'unary'}")
    stub = make(
        f"/{SHAPES}/{method}",
        request_serializer=StringValue.SerializeToString,
        response_deserializer=StringValue.FromString,
    )
    messages = [StringValue(value=text) for text in texts]
    return stub(iter(messages) if streamed_in else messages[0], **options)


async def finish(rpc: Any) -> list[str]:
    """All answers of a call that `call` began. Raises what the stub raises."""
    if hasattr(rpc, "__aiter__"):
        return [message.value async for message in rpc]
    return [(await rpc).value]


TYPES = {
    "UnaryUnary": "unary",
    "UnaryStream": "server_stream",
    "StreamUnary": "client_stream",
    "StreamStream": "bidi_stream",
    "UnaryStreamWritten": "server_stream",
    "StreamStreamWritten": "bidi_stream",
}
