"""Searches as callers write them: checked, and translated into the store's, paths of errors included."""

import re
from collections.abc import Mapping
from typing import Any

from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InvalidInput, LensmeshError, NotBuilt, UpstreamFault, Violation
from lensmesh_chassis.reasons import Reason

MAX_QUERIES = 8
# A path in the store's request, at the beginning of a field or of a word; what a query is here, is a leg there.
_SEARCHES = re.compile(r"^searches\[\d+\]\.?")
_LEGS = re.compile(r"(?<![\w.])legs(?=\[|$|\b)")


def check_search(request: router_pb2.SearchRequest, prefix: str) -> None:
    """Refuse what needs no service to be refused; `prefix` is the search's path in the caller's request.

    Raises InvalidInput with reason QUERY_INVALID, and NotBuilt naming the field.
    """
    count = len(request.queries)
    if not 1 <= count <= MAX_QUERIES:
        raise InvalidInput(
            Reason.QUERY_INVALID,
            f"{prefix}queries has {count} entries: send 1 to {MAX_QUERIES}",
            field=f"{prefix}queries",
            metadata={"count": count, "limit": MAX_QUERIES},
        )
    for index, query in enumerate(request.queries):
        path = f"{prefix}queries[{index}]"
        match query.WhichOneof("query"):
            case None:
                raise InvalidInput(
                    Reason.QUERY_INVALID,
                    f"{path} asks for nothing: set text, image, item_id or embedding",
                    field=path,
                )
            case "caption_text":
                raise _not_built(f"{path}.caption_text")
    if count > 1:
        raise _not_built(f"{prefix}queries", "one query in a search")
    for name in ("fusion", "group_by", "diversity"):
        if request.HasField(name):
            raise _not_built(f"{prefix}{name}")
    if request.partial:
        raise _not_built(f"{prefix}partial")


def to_store(
    request: router_pb2.SearchRequest, collection: str, vectors: Mapping[int, Any], spaces: Mapping[int, str]
) -> search_pb2.SearchRequest:
    """Write the store's request: `vectors` and `spaces` give the vector and named space of each encoded query."""
    sent = search_pb2.SearchRequest(collection=collection, limit=request.limit, offset=request.offset, legs=[])
    for index, query in enumerate(request.queries):
        leg = sent.legs.add(name=query.name, space=spaces.get(index, query.space), weight=query.weight)
        match query.WhichOneof("query"):
            case "text" | "image":
                leg.embedding.CopyFrom(vectors[index])
            case "embedding":
                leg.embedding.CopyFrom(query.embedding)
            case "item_id":
                leg.item_id = query.item_id
            case "caption_text":
                leg.caption_text = query.caption_text
    if request.HasField("min_score"):
        sent.min_score = request.min_score
    for name in ("filter", "tuning", "fusion", "group_by", "read"):
        if request.HasField(name):
            getattr(sent, name).CopyFrom(getattr(request, name))
    return sent


def from_store(error: LensmeshError, prefix: str) -> LensmeshError:
    """Return the store's error with the paths of the caller's request."""
    metadata = dict(error.metadata)
    if "field" in metadata:
        metadata["field"] = _path(metadata["field"], prefix)
    keywords: dict[str, Any] = {
        "violations": [
            Violation(_path(violation.field, prefix), _LEGS.sub("queries", violation.description))
            for violation in error.violations
        ],
        "retry_after_s": error.retry_after_s,
        "metadata": metadata,
    }
    if isinstance(error, UpstreamFault):
        keywords["code"] = error.code
    return type(error)(error.reason, _LEGS.sub("queries", error.message), **keywords)


def _path(field: str, prefix: str) -> str:
    return prefix + _LEGS.sub("queries", _SEARCHES.sub("", field))


def _not_built(field: str, instead: str = "") -> NotBuilt:
    hint = f": send {instead}" if instead else ": leave it out"
    return NotBuilt(Reason.NOT_IMPLEMENTED, f"{field} is not built yet{hint}", metadata={"field": field})
