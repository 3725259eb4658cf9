"""Translation of searches: from the contract's request to a store's query, and hits back."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, cast

from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import to_status
from search_svc.calibration import Calibration, Calibrations
from search_svc.model import Definition, Hits
from search_svc.settings import SearchSettings
from search_svc.store import Query
from search_svc.wire.filters import read_filter
from search_svc.wire.items import ItemReading, write_item
from search_svc.wire.legs import invalid, read_legs
from search_svc.wire.pages import Room, read_count, too_large
from search_svc.wire.rankings import read_diversity, read_fusion, read_group_by
from search_svc.wire.relevance import read_least_cosines, relevance_of

_MAX_EF = 1_000


def read_search(
    request: search_pb2.SearchRequest,
    definition: Definition,
    reading: ItemReading,
    settings: SearchSettings,
    calibrations: Calibrations,
) -> Query:
    """Read and check a search.

    Raises:
        InvalidInput: naming the field.
        PreconditionFailed: SPACE_MISMATCH, FIELD_NOT_INDEXED or NOT_CALIBRATED.
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
        least_cosines=read_least_cosines(request, legs, calibrations, definition),
    )


def write_hits(
    hits: Hits, query: Query, definition: Definition, reading: ItemReading, known: Mapping[str, Calibration]
) -> search_pb2.SearchResponse:
    """Build the answer to one search. `known` says what the cosines of its legs mean.

    Raises:
        InvalidInput: RESPONSE_TOO_LARGE, with the limit that would fit.
    """
    response = search_pb2.SearchResponse(exact=hits.exact)
    for failed in hits.failed:
        response.failed_legs.add(name=failed.name, error=to_status(failed.error))
    room = Room(query.max_bytes)
    for hit in hits.hits:
        message = response.hits.add()
        message.score = hit.score
        scores = hit.legs or ((query.legs[0].name, hit.score, hit.rank),)
        for name, score, rank in scores:
            message.legs.add(name=name, score=score, rank=rank)
        relevance = relevance_of(scores, known)
        if relevance is not None:
            message.relevance = relevance
        if hit.group is not None:
            message.group.extend(cast("Iterable[Any]", hit.group))
        write_item(hit.item, definition, reading, message.item)
        if not room.take(message):
            raise too_large("limit", len(response.hits) - 1, query.max_bytes, reading.less)
    if hits.cut:
        raise too_large("limit", len(hits.hits), query.max_bytes, reading.less)
    return response
