"""SearchService of the mesh: the contract passed on unchanged to whichever search service of the store answers."""

from collections.abc import Callable
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message

from lensmesh.search.v1 import search_pb2, search_pb2_grpc
from lensmesh_chassis.limits import check_filters
from lensmesh_chassis.messages.unread import take_answer_room
from lensmesh_chassis.process.server import Runtime
from router_svc.answer_sizes import items_of
from router_svc.deadline import deadline_of
from router_svc.limits import JoinedLimits
from router_svc.settings import RouterSettings
from router_svc.upstreams.kinds import Kind
from router_svc.upstreams.stores import Stores
from router_svc.upstreams.stubs import SearchStub

Q = TypeVar("Q", bound=Message)
A = TypeVar("A")


class SearchProxy(search_pb2_grpc.SearchServiceServicer):
    """Passes SearchService on.

    Every method of the contract may be sent again, so each is given to another replica if one is lost.
    """

    def __init__(self, runtime: Runtime[RouterSettings], stores: Stores, limits: JoinedLimits) -> None:
        self._runtime = runtime
        self._stores = stores
        self._limits = limits

    async def GetInfo(self, request: search_pb2.GetInfoRequest, context: Any) -> search_pb2.GetInfoResponse:
        told = await self._pass(lambda stub: stub.GetInfo, request, context)
        return search_pb2.GetInfoResponse(
            store=told.store, limits=self._limits.of(Kind.SEARCH), server=self._runtime.server_info()
        )

    async def CreateCollection(
        self, request: search_pb2.CreateCollectionRequest, context: Any
    ) -> search_pb2.CreateCollectionResponse:
        return await self._pass(lambda stub: stub.CreateCollection, request, context)

    async def GetCollection(
        self, request: search_pb2.GetCollectionRequest, context: Any
    ) -> search_pb2.GetCollectionResponse:
        return await self._pass(lambda stub: stub.GetCollection, request, context)

    async def ListCollections(
        self, request: search_pb2.ListCollectionsRequest, context: Any
    ) -> search_pb2.ListCollectionsResponse:
        return await self._pass(lambda stub: stub.ListCollections, request, context)

    async def DeleteCollection(
        self, request: search_pb2.DeleteCollectionRequest, context: Any
    ) -> search_pb2.DeleteCollectionResponse:
        return await self._pass(lambda stub: stub.DeleteCollection, request, context)

    async def UpsertItems(self, request: search_pb2.UpsertItemsRequest, context: Any) -> search_pb2.UpsertItemsResponse:
        return await self._pass(lambda stub: stub.UpsertItems, request, context)

    async def GetItems(self, request: search_pb2.GetItemsRequest, context: Any) -> search_pb2.GetItemsResponse:
        return await self._pass(lambda stub: stub.GetItems, request, context)

    async def DeleteItems(self, request: search_pb2.DeleteItemsRequest, context: Any) -> search_pb2.DeleteItemsResponse:
        return await self._pass(lambda stub: stub.DeleteItems, request, context)

    async def ListItems(self, request: search_pb2.ListItemsRequest, context: Any) -> search_pb2.ListItemsResponse:
        return await self._pass(lambda stub: stub.ListItems, request, context)

    async def Search(self, request: search_pb2.SearchRequest, context: Any) -> search_pb2.SearchResponse:
        return await self._pass(lambda stub: stub.Search, request, context)

    async def BatchSearch(self, request: search_pb2.BatchSearchRequest, context: Any) -> search_pb2.BatchSearchResponse:
        return await self._pass(lambda stub: stub.BatchSearch, request, context)

    async def CountFacets(self, request: search_pb2.CountFacetsRequest, context: Any) -> search_pb2.CountFacetsResponse:
        return await self._pass(lambda stub: stub.CountFacets, request, context)

    async def _pass(
        self, method: Callable[[SearchStub], grpc.aio.UnaryUnaryMultiCallable[Q, A]], request: Q, context: Any
    ) -> A:
        check_filters(_filters(request))
        await take_answer_room(items_of(request))
        return await self._stores.call(
            lambda stub, timeout_s: method(stub)(request, timeout=timeout_s), deadline=deadline_of(context)
        )


def _filters(request: Any) -> dict[str, search_pb2.Filter]:
    """Filters of a request, by their fields: refused here where the store would, before all of them is sent on."""
    if isinstance(request, search_pb2.BatchSearchRequest):
        return {f"searches[{i}].filter": search.filter for i, search in enumerate(request.searches)}
    return {"filter": request.filter} if hasattr(request, "filter") and request.HasField("filter") else {}
