"""SearchService of the mesh: the contract passed on unchanged to whichever search service of the store answers."""

import asyncio
import math
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from typing import Any

from lensmesh.search.v1 import search_pb2
from lensmesh_chassis import contract
from lensmesh_chassis.errors import Unavailable
from lensmesh_chassis.limits import check_filters
from lensmesh_chassis.messages.unread import take_answer_room
from lensmesh_chassis.process.server import Runtime
from lensmesh_chassis.reasons import Reason
from router_svc.answer_sizes import items_of
from router_svc.call_scope import CallScope
from router_svc.limits import JoinedLimits
from router_svc.settings import RouterSettings
from router_svc.upstreams.kinds import Kind
from router_svc.upstreams.methods import GET_SEARCH_INFO, A, Q, UpstreamMethod
from router_svc.upstreams.pool import UpstreamPool


class SearchProxy:
    """Passes SearchService on: a servicer whose methods are the contract's, whatever they are.

    Every method of the contract may be sent again, so each is given to another replica if one is lost.
    """

    def __init__(self, runtime: Runtime[RouterSettings], stores: UpstreamPool, limits: JoinedLimits) -> None:
        self._runtime = runtime
        self._stores = stores
        self._limits = limits

    async def GetInfo(self, request: search_pb2.GetInfoRequest, context: Any) -> search_pb2.GetInfoResponse:
        told = await self._pass(GET_SEARCH_INFO, request, context)
        return search_pb2.GetInfoResponse(
            store=told.store, limits=self._limits.of(Kind.SEARCH), server=self._runtime.server_info()
        )

    async def _pass(self, method: UpstreamMethod[Q, A], request: Q, context: Any) -> A:
        check_filters(_filters(request))
        await take_answer_room(items_of(request))
        return await self._stores.call_patiently(method, request, CallScope.of(context))

    async def _pass_stream(self, method: UpstreamMethod[Q, A], request: Q, context: Any) -> AsyncGenerator[A]:
        """Pass a stream of answers on. It may last for as long as its caller wants: what is watched takes hours.

        Raises:
            Unavailable: DRAINING, this router is ending, and does not wait for the end of what is watched.
        """
        stores = self._stores
        pieces = stores.stream(method, request, CallScope.of(context), targets=stores.targets, longest_s=math.inf)
        drained = asyncio.ensure_future(self._runtime.draining.wait())
        try:
            async with aclosing(pieces):
                while (piece := await _before(drained, anext(pieces, None))) is not None:
                    yield piece
        finally:
            drained.cancel()


async def _before(drained: asyncio.Future[Any], answer: Awaitable[A | None]) -> A | None:
    """Return an answer that comes before the router drains."""
    waiting = asyncio.ensure_future(answer)
    try:
        await asyncio.wait([waiting, drained], return_when=asyncio.FIRST_COMPLETED)
        if waiting.done():
            return waiting.result()
        raise Unavailable(Reason.DRAINING, "this router is ending: make the call again at another one")
    finally:
        if not waiting.done():
            waiting.cancel()
            await asyncio.wait([waiting])


def _passed_on(method: UpstreamMethod[Any, Any], *, is_stream: bool) -> Any:
    async def handle(self: SearchProxy, request: Any, context: Any) -> Any:
        return await self._pass(method, request, context)

    async def handle_stream(self: SearchProxy, request: Any, context: Any) -> AsyncGenerator[Any]:
        async with aclosing(self._pass_stream(method, request, context)) as pieces:
            async for piece in pieces:
                yield piece

    chosen = handle_stream if is_stream else handle
    chosen.__name__ = method.name
    return chosen


# What the proxy does not answer itself. A method that the contract gets later is passed on without a line here.
for _descriptor in contract.service("search").methods:
    if _descriptor.name not in vars(SearchProxy):
        _handler = _passed_on(UpstreamMethod.of(_descriptor), is_stream=_descriptor.server_streaming)
        setattr(SearchProxy, _descriptor.name, _handler)


def _filters(request: Any) -> dict[str, search_pb2.Filter]:
    """Return the filters of a request, by their fields: a bad one is refused before all of them are sent on."""
    if isinstance(request, search_pb2.BatchSearchRequest):
        return {f"searches[{i}].filter": search.filter for i, search in enumerate(request.searches)}
    return {"filter": request.filter} if hasattr(request, "filter") and request.HasField("filter") else {}
