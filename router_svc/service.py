"""RouterService: validate, hand over, translate."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from lensmesh.router.v1 import router_pb2, router_pb2_grpc
from lensmesh_chassis.limits import check_filters, check_items
from router_svc.call_scope import CallScope
from router_svc.ingest.ingestion import Ingestion
from router_svc.matching.handler import MatchHandler
from router_svc.media.media import Media
from router_svc.media.requests import read_request
from router_svc.search import SearchHandler
from router_svc.settings import RouterSettings
from router_svc.status import MeshStatus
from router_svc.stream import first_message


class RouterServicer(router_pb2_grpc.RouterServiceServicer):
    """The public face of the mesh."""

    def __init__(
        self,
        settings: RouterSettings,
        status: MeshStatus,
        ingestion: Ingestion,
        search_handler: SearchHandler,
        match_handler: MatchHandler,
        media: Media,
        draining: asyncio.Event,
    ) -> None:
        self._settings = settings
        self._status = status
        self._ingestion = ingestion
        self._search_handler = search_handler
        self._match_handler = match_handler
        self._media = media
        self._draining = draining

    async def GetStatus(self, request: router_pb2.GetStatusRequest, context: Any) -> router_pb2.GetStatusResponse:
        return await self._status.get()

    async def Ingest(self, request: router_pb2.IngestRequest, context: Any) -> router_pb2.IngestResponse:
        return router_pb2.IngestResponse(item=await self._ingestion.ingest_one(request, CallScope.of(context, "item")))

    async def IngestStream(self, request_iterator: Any, context: Any) -> AsyncIterator[router_pb2.IngestStreamResponse]:
        rest = aiter(request_iterator)
        first = await first_message(rest, self._draining)
        if first is None:
            return
        groups = self._ingestion.ingest_stream(first, rest, CallScope.of(context))
        async with aclosing(groups):
            async for group in groups:
                yield router_pb2.IngestStreamResponse(results=group)

    async def Search(self, request: router_pb2.SearchRequest, context: Any) -> router_pb2.SearchResponse:
        check_filters({"filter": request.filter})
        return await self._search_handler.search(request, CallScope.of(context))

    async def BatchSearch(self, request: router_pb2.BatchSearchRequest, context: Any) -> router_pb2.BatchSearchResponse:
        check_items(len(request.searches), self._settings.max_items, "searches")
        check_filters({f"searches[{i}].filter": search.filter for i, search in enumerate(request.searches)})
        return await self._search_handler.batch_search(request.searches, CallScope.of(context))

    async def MatchImages(self, request: router_pb2.MatchImagesRequest, context: Any) -> router_pb2.MatchImagesResponse:
        check_items(len(request.images), self._settings.max_items, "images")
        check_filters({"filter": request.filter})
        return await self._match_handler.match(request, CallScope.of(context, "images[]"))

    async def GetImage(self, request: router_pb2.GetImageRequest, context: Any) -> router_pb2.GetImageResponse:
        digest, form = read_request(request)
        content, media_type = await self._media.get(form, digest)
        return router_pb2.GetImageResponse(content=content, media_type=media_type)
