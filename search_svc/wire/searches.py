"""Translation of searches: from the contract's request to a store's query, and hits back."""

import math

from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InvalidInput, NotBuilt
from lensmesh_chassis.reasons import Reason
from search_svc.model import Definition, Hits, NamedSpace, Numbers
from search_svc.settings import SearchSettings
from search_svc.store import Query
from search_svc.wire.filters import read_filter
from search_svc.wire.findings import Findings
from search_svc.wire.items import ItemReading, check_id, write_item
from search_svc.wire.pages import Room, read_count, too_large
from search_svc.wire.vectors import read_vector

_MAX_LEGS = 8
_MAX_EF = 1_000


def read_search(
    request: search_pb2.SearchRequest, definition: Definition, reading: ItemReading, settings: SearchSettings
) -> Query:
    """Read and check a search.

    Raises:
        InvalidInput: naming the field.
        PreconditionFailed: SPACE_MISMATCH.
        NotBuilt: several legs, fusion, grouping, caption words.
    """
    leg = _only_leg(request)
    space = _space(leg, definition)
    vector, item_id = _near(leg, space)
    if request.HasField("min_score") and math.isnan(request.min_score):
        raise _invalid("min_score", "is NaN")
    if request.tuning.hnsw_ef > _MAX_EF:
        raise InvalidInput(
            Reason.OPTION_INVALID,
            f"tuning.hnsw_ef is {request.tuning.hnsw_ef}: use at most {_MAX_EF}",
            field="tuning.hnsw_ef",
        )
    return Query(
        space=space,
        vector=vector,
        item_id=item_id,
        filter=read_filter(request.filter) if request.HasField("filter") else None,
        limit=read_count(request.limit, settings.max_hits, settings.default_hits, "limit"),
        offset=read_count(request.offset, settings.max_offset, 0, "offset"),
        min_score=request.min_score if request.HasField("min_score") else None,
        exact=request.tuning.exact,
        hnsw_ef=request.tuning.hnsw_ef or None,
        view=reading.view,
        max_bytes=settings.max_message_bytes,
    )


def _only_leg(request: search_pb2.SearchRequest) -> search_pb2.SearchLeg:
    if not 1 <= len(request.legs) <= _MAX_LEGS:
        raise _invalid("legs", f"has {len(request.legs)} legs: send 1 to {_MAX_LEGS}")
    for i, leg in enumerate(request.legs):
        if leg.WhichOneof("query") is None:
            raise _invalid(f"legs[{i}]", "has no query: set embedding or item_id")
        if leg.WhichOneof("query") == "caption_text":
            raise _not_built(f"legs[{i}].caption_text", "search by embedding or item_id")
        if not leg.weight >= 0 or math.isinf(leg.weight):
            raise _invalid(f"legs[{i}].weight", f"is {leg.weight}: use a positive number, or 0 for 1")
    if len(request.legs) > 1:
        raise _not_built("legs[1]", "send one leg")
    if request.HasField("fusion"):
        raise _not_built("fusion", "send one leg and no fusion")
    if request.HasField("group_by"):
        raise _not_built("group_by", "leave it out")
    return request.legs[0]


def _space(leg: search_pb2.SearchLeg, definition: Definition) -> NamedSpace:
    space = definition.space(leg.space)
    if space is None:
        known = ", ".join(named.name for named in definition.spaces)
        raise InvalidInput(
            Reason.SPACE_UNKNOWN,
            f"legs[0].space is {leg.space[:80]!r}, and the collection {definition.name} has {known}",
            field="legs[0].space",
            metadata={"space": leg.space, "known": known},
        )
    return space


def _near(leg: search_pb2.SearchLeg, space: NamedSpace) -> tuple[Numbers | None, str]:
    findings = Findings()
    if leg.WhichOneof("query") == "embedding":
        vector = read_vector(leg.embedding, space, "legs[0].embedding", findings, query=True)
        findings.check()
        return vector, ""
    check_id(leg.item_id, "legs[0].item_id", findings)
    findings.check()
    return None, leg.item_id


def write_hits(
    hits: Hits, leg_name: str, definition: Definition, reading: ItemReading, max_message_bytes: int
) -> search_pb2.SearchResponse:
    """Build the answer to one search.

    Raises:
        InvalidInput: RESPONSE_TOO_LARGE, with the limit that would fit.
    """
    response = search_pb2.SearchResponse(exact=hits.exact)
    room = Room(max_message_bytes)
    for hit in hits.hits:
        message = response.hits.add()
        leg = message.legs.add()
        message.score = leg.score = hit.score
        leg.name, leg.rank = leg_name, hit.rank
        write_item(hit.item, definition, reading, message.item)
        if not room.take(message):
            raise too_large("limit", len(response.hits) - 1, max_message_bytes, "read less with read.view")
    if hits.cut:
        raise too_large("limit", len(hits.hits), max_message_bytes, "read less with read.view")
    return response


def _invalid(field: str, description: str) -> InvalidInput:
    return InvalidInput(Reason.QUERY_INVALID, f"{field} {description}", field=field)


def _not_built(field: str, instead: str) -> NotBuilt:
    return NotBuilt(Reason.NOT_IMPLEMENTED, f"{field} is not built yet: {instead}", metadata={"field": field})
