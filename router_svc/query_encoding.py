"""Encoding of searches' texts and images: those of a call together, each in the space that it asks in."""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh_chassis.errors import InvalidInput, NotBuilt, Unavailable
from lensmesh_chassis.images.fetching import Fetcher
from lensmesh_chassis.images.inputs import Fetching
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import from_status
from router_svc.call_scope import CallScope
from router_svc.collection_cache import CollectionCache
from router_svc.queries import check_search
from router_svc.search_work import QueryWork, SearchWork
from router_svc.upstreams.images import PackedImage
from router_svc.upstreams.models import Encoders
from router_svc.upstreams.together import together


@dataclass(slots=True)
class _Batch:
    """The texts or the images that are encoded together, in one space."""

    space_id: str
    kind: str
    by_hash: bool
    """True where the hashes are wanted, and not the vectors."""
    spared: bool
    """True where its searches are answered without it, if it takes too much of the time that is left."""
    queries: list[QueryWork] = field(default_factory=list)


class QueryEncoding:
    """Encodes what searches ask by. A bad search keeps its error, and costs no other anything."""

    def __init__(self, encoders: Encoders, collection_cache: CollectionCache, fetcher: Fetcher) -> None:
        self._encoders = encoders
        self._collection_cache = collection_cache
        self._fetcher = fetcher

    async def jobs(
        self, searches: Sequence[SearchWork], scope: CallScope, fetches: Fetching
    ) -> list[Coroutine[Any, Any, None]]:
        """Check all, and return what encodes their texts and images, by space and kind: to be done at the same time."""
        started = time.perf_counter()
        return [self._encode(batch, scope, started) for batch in await self._batches(searches, scope, fetches)]

    def fetching(self, searches: Sequence[SearchWork], scope: CallScope) -> AbstractAsyncContextManager[Fetching]:
        """Open the account of what a call's images are fetched by, where it has any by address."""
        if any(query.image.uri for search in searches for query in search.request.queries):
            return self._fetcher.for_call(half_of_time(scope))
        return nullcontext(self._fetcher)

    async def _batches(self, searches: Sequence[SearchWork], scope: CallScope, fetches: Fetching) -> list[_Batch]:
        """Check all, and gather what is to encode, by space and kind."""
        found: list[tuple[str, QueryWork]] = []
        for search in searches:
            found += await self._look_at(search, scope)
        await together([self._fetch(query, fetches) for _, query in found if query.query.image.uri])
        batches: dict[tuple[str, str, bool, bool], _Batch] = {}
        for space_id, query in found:
            if query.is_waiting:
                key = (space_id, query.kind, query.query.by_hash, query.may_be_left_out)
                batches.setdefault(key, _Batch(*key)).queries.append(query)
        return list(batches.values())

    async def _look_at(self, search: SearchWork, scope: CallScope) -> Sequence[tuple[str, QueryWork]]:
        """List what there is to encode of one search, with the space for each; nothing where it is refused."""
        try:
            check_search(search.request, search.prefix)
            return [(await self._space(query, scope), query) for query in search.to_encode]
        except Exception as error:  # noqa: BLE001 - whatever a search breaks, it breaks for itself
            search.error = error
            return ()

    @staticmethod
    async def _fetch(query: QueryWork, fetches: Fetching) -> None:
        try:
            content = await fetches.fetch(query.query.image.uri, f"{query.path}.uri")
            query.search.fetched[query.index] = PackedImage.of(common_pb2.Image(content=content))
        except Exception as error:  # noqa: BLE001 - as above
            query.fail(error)

    async def _space(self, query: QueryWork, scope: CallScope) -> str:
        """Return the VectorSpace.id that a query is meant in; its name is kept for the store."""
        search = query.search
        collection = await self._collection_cache.get(search.collection, scope)
        name = query.query.space
        for named in collection.spaces:
            if name in ("", named.name):
                search.spaces[query.index] = named.name
                return named.space.id
        field_path = f"{search.prefix}queries[{query.index}].space"
        names = ", ".join(named.name for named in collection.spaces)
        raise InvalidInput(
            Reason.SPACE_UNKNOWN,
            f"{field_path} is {name!r}, and the collection {collection.name!r} has: {names}",
            field=field_path,
            metadata={"space": name, "collection": collection.name},
        )

    async def _encode(self, batch: _Batch, scope: CallScope, started: float) -> None:
        """Encode one batch. What fails the whole batch fails each of its queries, and no other.

        Args:
            batch: what is encoded together.
            scope: of the call.
            started: when its searches began to be prepared, as `time.perf_counter` tells it.
        """
        options = encoder_pb2.EncodeOptions(
            data_type=common_pb2.DATA_TYPE_FLOAT32,
            priority=common_pb2.PRIORITY_INTERACTIVE,
            space_id=batch.space_id,
            perceptual_hash=batch.by_hash,
        )
        scope = scope.at(tuple(query.path for query in batch.queries))
        try:
            async with _bounded(half_of_time(scope) if batch.spared else None):
                if batch.kind == "text":
                    texts = [query.query.text for query in batch.queries]
                    results = await self._encoders.texts.run(texts, options, scope)
                else:
                    images = [query.image for query in batch.queries]
                    results = await self._encoders.images.run(images, options, scope)
        except Exception as error:  # noqa: BLE001 - of this batch's queries, whatever it is
            for query in batch.queries:
                query.fail(error)
            return
        finally:
            for query in batch.queries:
                query.search.encode_us = int((time.perf_counter() - started) * 1e6)
                # Bytes that have been sent.
                query.search.fetched.pop(query.index, None)
        for query, result in zip(batch.queries, results, strict=True):
            if result.HasField("error"):
                query.fail(from_status(result.error))
            elif batch.by_hash and not result.HasField("perceptual_hash"):
                query.fail(_no_hash(query))
            else:
                query.search.encoded[query.index] = result


def _no_hash(query: QueryWork) -> NotBuilt:
    field_path = f"{query.search.prefix}queries[{query.index}].by_hash"
    return NotBuilt(
        Reason.NOT_IMPLEMENTED,
        f"{field_path}: the encoder here makes no perceptual hashes; it is of an older release",
        metadata={"field": field_path},
    )


@asynccontextmanager
async def _bounded(seconds: float | None) -> AsyncIterator[None]:
    """Break off what takes longer, where others can be answered without it. Raises Unavailable then."""
    try:
        async with asyncio.timeout(seconds) as bound:
            yield
    except TimeoutError as error:
        if not bound.expired():
            raise
        raise Unavailable(
            Reason.ENCODER_UNAVAILABLE,
            f"the encoder did not answer in {seconds:.3g} s, half of the time that was left: the rest is for the"
            " other queries",
            retry_after_s=1.0,
        ) from error


def half_of_time(scope: CallScope) -> float | None:
    """Return half of what the caller has left, so that what does not answer fails in time to say so."""
    return None if scope.deadline is None else max(0.0, scope.deadline - asyncio.get_running_loop().time()) / 2
