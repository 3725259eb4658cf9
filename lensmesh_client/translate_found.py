"""Results of a search, between the contracts' messages and the client's own classes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lensmesh.common.v1 import common_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.rpc.status import from_status
from lensmesh_client.found import FailedQuery, Hit, LegScore, SearchResult
from lensmesh_client.translate import caption, moment, plain
from lensmesh_client.types import Vectors


def routed(message: router_pb2.SearchResponse, trace_id: str = "") -> SearchResult:
    """Translate the Router's answer to a search."""
    return SearchResult(
        _hits(message.hits),
        message.encode_us,
        message.store_us,
        trace_id,
        exact=message.exact,
        failed=_failed(message.failed_queries),
    )


def stored(message: search_pb2.SearchResponse, trace_id: str = "") -> SearchResult:
    """Translate the store's answer to a search."""
    return SearchResult(
        _hits(message.hits), trace_id=trace_id, exact=message.exact, failed=_failed(message.failed_legs)
    )


def _hits(messages: Iterable[search_pb2.Hit]) -> tuple[Hit, ...]:
    return tuple(hit(each) for each in messages)


def hit(message: search_pb2.Hit) -> Hit:
    """Translate a hit."""
    item = message.item
    return Hit(
        id=item.id,
        score=message.score,
        caption=caption(item.caption) if item.HasField("caption") else None,
        # The contract's maps have no order of their own.
        metadata={key: plain(value) for key, value in sorted(item.metadata.fields.items())},
        image_uri=item.image_uri,
        content_digest=item.content_digest.hex(),
        low_content=item.low_content,
        create_time=moment(item.create_time) if item.HasField("create_time") else None,
        update_time=moment(item.update_time) if item.HasField("update_time") else None,
        vectors=_vectors({name: value for name, value in item.vectors.items() if value.data or value.floats}),
        legs=tuple(LegScore(leg.name, leg.score, leg.rank) for leg in message.legs),
        relevance=message.relevance if message.HasField("relevance") else None,
        group=tuple(plain(value) for value in message.group.values) if message.HasField("group") else None,
    )


def _failed(messages: Iterable[search_pb2.FailedLeg]) -> tuple[FailedQuery, ...]:
    return tuple(FailedQuery(each.name, from_status(each.error)) for each in messages)


def _vectors(messages: Mapping[str, common_pb2.Embedding]) -> dict[str, Vectors]:
    if not messages:
        return {}
    # Imported here, and numpy with it: most hits come without numbers, and an ingest never needs them.
    from lensmesh_client.vectors import vector

    return {name: vector(value) for name, value in messages.items()}
