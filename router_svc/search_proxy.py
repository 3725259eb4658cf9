"""SearchService of the mesh: the contract passed on unchanged to whichever search service of the store answers."""

from typing import Any

from lensmesh.search.v1 import search_pb2, search_pb2_grpc
from lensmesh_chassis.limits import check_filters
from lensmesh_chassis.messages.unread import take_answer_room
from lensmesh_chassis.process.server import Runtime
from router_svc.answer_sizes import items_of
from router_svc.call_scope import CallScope
from router_svc.limits import JoinedLimits
from router_svc.settings import RouterSettings
from router_svc.upstreams import methods
from router_svc.upstreams.kinds import Kind
from router_svc.upstreams.methods import A, Q, UpstreamMethod
from router_svc.upstreams.pool import UpstreamPool


class SearchProxy(search_pb2_grpc.SearchServiceServicer):
    """Passes SearchService on.

    Every method of the contract may be sent again, so each is given to another replica if one is lost.
    """

    def __init__(self, runtime: Runtime[RouterSettings], stores: UpstreamPool, limits: JoinedLimits) -> None:
        self._runtime = runtime
        self._stores = stores
        self._limits = limits

    async def GetInfo(self, request: search_pb2.GetInfoRequest, context: Any) -> search_pb2.GetInfoResponse:
        told = await self._pass(methods.GET_SEARCH_INFO, request, context)
        return search_pb2.GetInfoResponse(
            store=told.store, limits=self._limits.of(Kind.SEARCH), server=self._runtime.server_info()
        )

    async def CreateCollection(
        self, request: search_pb2.CreateCollectionRequest, context: Any
    ) -> search_pb2.CreateCollectionResponse:
        return await self._pass(methods.CREATE_COLLECTION, request, context)

    async def GetCollection(
        self, request: search_pb2.GetCollectionRequest, context: Any
    ) -> search_pb2.GetCollectionResponse:
        return await self._pass(methods.GET_COLLECTION, request, context)

    async def ListCollections(
        self, request: search_pb2.ListCollectionsRequest, context: Any
    ) -> search_pb2.ListCollectionsResponse:
        return await self._pass(methods.LIST_COLLECTIONS, request, context)

    async def DeleteCollection(
        self, request: search_pb2.DeleteCollectionRequest, context: Any
    ) -> search_pb2.DeleteCollectionResponse:
        return await self._pass(methods.DELETE_COLLECTION, request, context)

    async def UpsertItems(self, request: search_pb2.UpsertItemsRequest, context: Any) -> search_pb2.UpsertItemsResponse:
        return await self._pass(methods.UPSERT_ITEMS, request, context)

    async def GetItems(self, request: search_pb2.GetItemsRequest, context: Any) -> search_pb2.GetItemsResponse:
        return await self._pass(methods.GET_ITEMS, request, context)

    async def DeleteItems(self, request: search_pb2.DeleteItemsRequest, context: Any) -> search_pb2.DeleteItemsResponse:
        return await self._pass(methods.DELETE_ITEMS, request, context)

    async def ListItems(self, request: search_pb2.ListItemsRequest, context: Any) -> search_pb2.ListItemsResponse:
        return await self._pass(methods.LIST_ITEMS, request, context)

    async def Search(self, request: search_pb2.SearchRequest, context: Any) -> search_pb2.SearchResponse:
        return await self._pass(methods.SEARCH, request, context)

    async def BatchSearch(self, request: search_pb2.BatchSearchRequest, context: Any) -> search_pb2.BatchSearchResponse:
        return await self._pass(methods.BATCH_SEARCH, request, context)

    async def CountFacets(self, request: search_pb2.CountFacetsRequest, context: Any) -> search_pb2.CountFacetsResponse:
        return await self._pass(methods.COUNT_FACETS, request, context)

    async def _pass(self, method: UpstreamMethod[Q, A], request: Q, context: Any) -> A:
        check_filters(_filters(request))
        await take_answer_room(items_of(request))
        return await self._stores.call_patiently(method, request, CallScope.of(context))


def _filters(request: Any) -> dict[str, search_pb2.Filter]:
    """Return the filters of a request, by their fields: a bad one is refused before all of them are sent on."""
    if isinstance(request, search_pb2.BatchSearchRequest):
        return {f"searches[{i}].filter": search.filter for i, search in enumerate(request.searches)}
    return {"filter": request.filter} if hasattr(request, "filter") and request.HasField("filter") else {}
