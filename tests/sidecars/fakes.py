"""A replica of the Encoder that counts, whose fault is an attribute; on the chassis, so its health is real."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc

from lensmesh.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from lensmesh.router.v1 import router_pb2, router_pb2_grpc
from lensmesh_chassis.errors import LensmeshError
from lensmesh_chassis.process.server import Runtime

ENCODER = "lensmesh.encoder.v1.EncoderService"


class Replica(encoder_pb2_grpc.EncoderServiceServicer):
    """Answers with nothing in it, or with `fault`."""

    def __init__(self, runtime: Runtime[Any]) -> None:
        self.runtime = runtime
        self.fault: LensmeshError | None = None
        self.calls = 0
        self.bytes = 0
        self.metadata: dict[str, str] = {}

    def register(self, server: grpc.aio.Server) -> Sequence[str]:
        """As a service's App does."""
        encoder_pb2_grpc.add_EncoderServiceServicer_to_server(self, server)
        return [ENCODER]

    async def start(self) -> None:
        """Nothing to load."""

    async def stop(self) -> None:
        """Nothing to release."""

    def _count(self, request: Any, context: Any) -> None:
        self.calls += 1
        self.bytes += request.ByteSize()
        self.metadata = {key: str(value) for key, value in context.invocation_metadata()}
        if self.fault is not None:
            raise self.fault

    async def GetInfo(self, request: Any, context: Any) -> encoder_pb2.GetInfoResponse:
        return encoder_pb2.GetInfoResponse()

    async def ClassifyImages(self, request: Any, context: Any) -> encoder_pb2.ClassifyImagesResponse:
        self._count(request, context)
        return encoder_pb2.ClassifyImagesResponse()

    async def EncodeTexts(self, request: Any, context: Any) -> encoder_pb2.EncodeTextsResponse:
        self._count(request, context)
        return encoder_pb2.EncodeTextsResponse()

    async def EncodeImages(self, request: Any, context: Any) -> encoder_pb2.EncodeImagesResponse:
        self._count(request, context)
        return encoder_pb2.EncodeImagesResponse()

    async def EncodeStream(
        self, request_iterator: AsyncIterator[Any], context: Any
    ) -> AsyncIterator[encoder_pb2.EncodeStreamResponse]:
        async for request in request_iterator:
            self._count(request, context)
            yield encoder_pb2.EncodeStreamResponse()


class Router(router_pb2_grpc.RouterServiceServicer):
    """A router that counts who asks for its status, and answers with `fault` if it has one."""

    def __init__(self) -> None:
        self.calls = 0
        self.fault: LensmeshError | None = None

    def register(self, server: grpc.aio.Server) -> Sequence[str]:
        """As a service's App does."""
        router_pb2_grpc.add_RouterServiceServicer_to_server(self, server)
        return ["lensmesh.router.v1.RouterService"]

    async def start(self) -> None:
        """Nothing to load."""

    async def stop(self) -> None:
        """Nothing to release."""

    async def GetStatus(self, request: Any, context: Any) -> router_pb2.GetStatusResponse:
        self.calls += 1
        if self.fault is not None:
            raise self.fault
        return router_pb2.GetStatusResponse()

    async def Ingest(self, request: Any, context: Any) -> router_pb2.IngestResponse:
        return router_pb2.IngestResponse()

    async def IngestStream(
        self, request_iterator: AsyncIterator[Any], context: Any
    ) -> AsyncIterator[router_pb2.IngestStreamResponse]:
        async for _ in request_iterator:
            yield router_pb2.IngestStreamResponse()

    async def Search(self, request: Any, context: Any) -> router_pb2.SearchResponse:
        return router_pb2.SearchResponse()

    async def BatchSearch(self, request: Any, context: Any) -> router_pb2.BatchSearchResponse:
        return router_pb2.BatchSearchResponse()

    async def MatchImages(self, request: Any, context: Any) -> router_pb2.MatchImagesResponse:
        return router_pb2.MatchImagesResponse()

    async def GetImage(self, request: Any, context: Any) -> router_pb2.GetImageResponse:
        return router_pb2.GetImageResponse()
