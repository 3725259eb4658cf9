"""MatchImages: images encoded, candidates found, looked at and judged, some images at a time."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass

from opentelemetry import trace

from lensmesh.common.v1 import common_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InvalidInput, LensmeshError
from lensmesh_chassis.images.fetching import Fetcher
from lensmesh_chassis.images.inputs import Fetching
from lensmesh_chassis.messages.unread import take_answer_room
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.telemetry import spans
from router_svc.answer_sizes import plain_items
from router_svc.call_scope import CallScope
from router_svc.collection_cache import CollectionCache
from router_svc.matching.answers import Answer
from router_svc.matching.errors import is_of_the_request, is_outdated
from router_svc.matching.image_encoding import ImageEncoding
from router_svc.matching.image_work import ImageWork
from router_svc.matching.judging import judge_all
from router_svc.matching.metrics import MatchMetrics
from router_svc.matching.options import MatchOptions, read_options
from router_svc.matching.store_lookup import StoreLookup
from router_svc.matching.verification import Verification
from router_svc.model_directory import ModelDirectory
from router_svc.query_encoding import half_of_time
from router_svc.served_spaces import served_spaces
from router_svc.upstreams.models import Encoders
from router_svc.upstreams.pool import UpstreamPool
from router_svc.upstreams.together import together

# Images that go through all steps together, and such groups at a time: what is held of a call's images stays small.
_GROUP_IMAGES = 16
_GROUPS_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class _MatchCall:
    """All that the groups of one call's images share."""

    options: MatchOptions
    space_id: str
    lookup: StoreLookup
    answer: Answer
    scope: CallScope
    verifies: bool
    """True where the collection keeps local features."""


class MatchHandler:
    """Answers RouterService.MatchImages."""

    def __init__(
        self,
        encoders: Encoders,
        stores: UpstreamPool,
        directory: ModelDirectory,
        collection_cache: CollectionCache,
        fetcher: Fetcher,
        hashing: Executor,
        metrics: MatchMetrics,
        verification: Verification,
        *,
        max_message_bytes: int,
    ) -> None:
        self._encoders = encoders
        self._stores = stores
        self._directory = directory
        self._collection_cache = collection_cache
        self._fetcher = fetcher
        self._encoding = ImageEncoding(encoders, hashing)
        self._metrics = metrics
        self._verification = verification
        self._max_message_bytes = max_message_bytes

    async def match(self, request: router_pb2.MatchImagesRequest, scope: CallScope) -> router_pb2.MatchImagesResponse:
        """Return one result for each image, in order. Raises what concerns the request as a whole."""
        options = read_options(request, self._collection_cache.name(request.collection))
        _describe(options)
        is_again = False
        async with self._fetching(request.images, scope) as fetches:
            work = await self._encoding.read(request.images, fetches)
            while True:
                try:
                    return await self._match(work, request.space, options, scope)
                except LensmeshError as error:
                    if is_again or not is_outdated(error):
                        raise
                self._collection_cache.forget(options.collection)
                work = [
                    ImageWork(one.index, one.image, error=one.error if one.encoded is None else None) for one in work
                ]
                is_again = True

    async def _match(
        self, work: Sequence[ImageWork], space: str, options: MatchOptions, scope: CallScope
    ) -> router_pb2.MatchImagesResponse:
        collection = await self._collection_cache.get(options.collection, scope)
        named = await self._space(collection, space, scope)
        if collection.local_features:
            # Never left out in silence: a verdict without geometry is another one.
            await self._directory.local_feature_kind(named.space.id)
        await take_answer_room(len(work) * (1 + options.alternatives) * plain_items(options.read))
        call = _MatchCall(
            options,
            named.space.id,
            StoreLookup(self._stores, options, named.name, scope),
            Answer(len(work), options, self._max_message_bytes),
            scope,
            verifies=collection.local_features,
        )
        turns = asyncio.Semaphore(_GROUPS_AT_ONCE)

        async def do(group: Sequence[ImageWork]) -> None:
            async with turns:
                await self._match_group(group, call)

        await together([do(work[start : start + _GROUP_IMAGES]) for start in range(0, len(work), _GROUP_IMAGES)])
        self._metrics.count(work)
        return call.answer.message

    async def _match_group(self, group: Sequence[ImageWork], call: _MatchCall) -> None:
        with spans.span("encode", {spans.BATCH_SIZE: len(group)}):
            await self._encoding.encode(
                group, call.space_id, call.options.priority, call.scope, with_points=call.verifies
            )
        encoded = [one for one in group if one.error is None]
        started = time.perf_counter()
        with spans.span("candidates", {spans.BATCH_SIZE: len(encoded)}):
            await call.lookup.find_candidates(encoded)
        refused = next((one.error for one in encoded if is_of_the_request(one.error)), None)
        if refused is not None:
            raise refused
        found = [one for one in encoded if one.error is None]
        store_s = time.perf_counter() - started
        if call.verifies:
            store_s += await self._verification.verify(found, call.options, call.lookup)
        started = time.perf_counter()
        items = await judge_all(found, call.options, call.lookup)
        store_s += time.perf_counter() - started
        for one in found:
            one.store_us = int(store_s * 1e6)
        await call.answer.write(group, items)
        for one in group:
            # Of hundreds of images they would be many megabytes.
            one.points, one.candidates = None, []

    async def _space(self, collection: search_pb2.Collection, name: str, scope: CallScope) -> search_pb2.NamedSpace:
        """Return the space that vectors are compared in.

        Raises InvalidInput with reason SPACE_UNKNOWN for a name that the collection has not, PreconditionFailed with
        reason SPACE_NOT_SERVED where no encoder serves it.
        """
        spaces = {named.name: named for named in collection.spaces}
        if name and name not in spaces:
            raise InvalidInput(
                Reason.SPACE_UNKNOWN,
                f"space is {name!r}, and the collection {collection.name!r} has: {', '.join(spaces)}",
                field="space",
                metadata={"space": name, "collection": collection.name},
            )
        candidates = [spaces[name]] if name else list(spaces.values())
        first, *_ = await self._encoders.pool.patiently(lambda: served_spaces(candidates, self._directory), scope)
        return spaces[first]

    def _fetching(self, images: Sequence[common_pb2.Image], scope: CallScope) -> AbstractAsyncContextManager[Fetching]:
        """Open the account of what a call's images are fetched by, where it has any by address."""
        if any(image.uri for image in images):
            return self._fetcher.for_call(half_of_time(scope))
        return nullcontext(self._fetcher)


def _describe(options: MatchOptions) -> None:
    """Tell the call's span what is matched."""
    span = trace.get_current_span()
    if span.is_recording():
        lane = "bulk" if options.priority == common_pb2.PRIORITY_BULK else "interactive"
        span.set_attributes({spans.COLLECTION: options.collection, spans.LANE: lane})
