"""Translation of searches: from the contract's request to a store's query, and hits back."""

import math
from collections.abc import Iterable
from typing import Any, cast

from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import to_status
from search_svc.model import Definition, Hits
from search_svc.settings import SearchSettings
from search_svc.store import Query
from search_svc.wire.filters import read_filter
from search_svc.wire.items import ItemReading, write_item
from search_svc.wire.legs import invalid, read_legs
from search_svc.wire.pages import Room, read_count, too_large
from search_svc.wire.rankings import read_diversity, read_fusion, read_group_by

_MAX_EF = 1_000


def read_search(
    request: search_pb2.SearchRequest, definition: Definition, reading: ItemReading, settings: SearchSettings
) -> Query:
    """Read and check a search.

    Raises:
        InvalidInput: naming the field.
        PreconditionFailed: SPACE_MISMATCH or FIELD_NOT_INDEXED.
    """
    legs = read_legs(request.legs, definition)
    fusion, group_by, diversity = read_fusion(request), read_group_by(request), read_diversity(request)
    if request.HasField("min_score") and math.isnan(request.min_score):
        raise invalid("min_score", "is NaN")
    if request.tuning.hnsw_ef > _MAX_EF:
        raise InvalidInput(
            Reason.OPTION_INVALID,
            f"tuning.hnsw_ef is {request.tuning.hnsw_ef}: use at most {_MAX_EF}",
            field="tuning.hnsw_ef",
        )
    return Query(
        legs=legs,
        filter=read_filter(request.filter) if request.HasField("filter") else None,
        limit=read_count(request.limit, settings.max_hits, settings.default_hits, "limit"),
        offset=read_count(request.offset, settings.max_offset, 0, "offset"),
        min_score=request.min_score if request.HasField("min_score") else None,
        exact=request.tuning.exact,
        hnsw_ef=request.tuning.hnsw_ef or None,
        view=reading.view,
        max_bytes=settings.max_message_bytes,
        fusion=fusion,
        group_by=group_by,
        diversity=diversity,
        partial=request.partial,
    )


def write_hits(
    hits: Hits, leg_name: str, definition: Definition, reading: ItemReading, max_message_bytes: int
) -> search_pb2.SearchResponse:
    """Build the answer to one search.

    Raises:
        InvalidInput: RESPONSE_TOO_LARGE, with the limit that would fit.
    """
    response = search_pb2.SearchResponse(exact=hits.exact)
    for failed in hits.failed:
        response.failed_legs.add(name=failed.name, error=to_status(failed.error))
    room = Room(max_message_bytes)
    for hit in hits.hits:
        message = response.hits.add()
        message.score = hit.score
        for name, score, rank in hit.legs or ((leg_name, hit.score, hit.rank),):
            message.legs.add(name=name, score=score, rank=rank)
        if hit.group is not None:
            message.group.extend(cast("Iterable[Any]", hit.group))
        write_item(hit.item, definition, reading, message.item)
        if not room.take(message):
            raise too_large("limit", len(response.hits) - 1, max_message_bytes, "read less with read.view")
    if hits.cut:
        raise too_large("limit", len(hits.hits), max_message_bytes, "read less with read.view")
    return response
