"""Searches as callers write them: checked, and translated into the store's, paths of errors included."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InvalidInput, LensmeshError, UpstreamFault, Violation
from lensmesh_chassis.limits import check_legs
from lensmesh_chassis.reasons import Reason

# A path in the store's request, at the beginning of a field or of a word; what a query is here, is a leg there.
_SEARCHES = re.compile(r"^searches\[\d+\]\.?")
_LEGS = re.compile(r"(?<![\w.])legs\b(?:\[(\d+)\])?")
# What is encoded here; of a vector of the caller's own, the caller says it.
_MODALITIES = {"text": common_pb2.MODALITY_TEXT, "image": common_pb2.MODALITY_IMAGE}


def check_search(request: router_pb2.SearchRequest, prefix: str) -> None:
    """Refuse what needs no service to be refused; `prefix` is the search's path in the caller's request.

    Raises InvalidInput with reason QUERY_INVALID.
    """
    check_legs(request.queries, f"{prefix}queries")
    for index, query in enumerate(request.queries):
        path = f"{prefix}queries[{index}]"
        if query.WhichOneof("query") is None:
            raise InvalidInput(
                Reason.QUERY_INVALID,
                f"{path} asks for nothing: set text, image, item_id, embedding, caption_text or perceptual_hash",
                field=path,
            )
        if query.by_hash and not query.HasField("image"):
            raise InvalidInput(
                Reason.QUERY_INVALID,
                f"{path}.by_hash is of images, and the query is none: leave it out, or send perceptual_hash",
                field=f"{path}.by_hash",
            )
        if query.modality and not query.HasField("embedding"):
            raise InvalidInput(
                Reason.QUERY_INVALID,
                f"{path}.modality is of an embedding, and of all else it is known: leave it out",
                field=f"{path}.modality",
            )


def to_store(
    request: router_pb2.SearchRequest,
    collection: str,
    encoded: Mapping[int, encoder_pb2.EncodeResult],
    spaces: Mapping[int, str],
    chosen: Sequence[int],
) -> search_pb2.SearchRequest:
    """Write the store's request.

    Args:
        request: the caller's.
        collection: whose items are searched.
        encoded: what the Encoder made of each query in words or by an image, by its index.
        spaces: name of the space of each encoded query, by its index.
        chosen: indexes of the queries that become legs.
    """
    sent = search_pb2.SearchRequest(
        collection=collection, limit=request.limit, offset=request.offset, partial=request.partial
    )
    for index in chosen:
        query = request.queries[index]
        leg = sent.legs.add(
            name=query.name,
            space=spaces.get(index, query.space),
            weight=query.weight,
            text_fields=query.text_fields,
            modality=query.modality,
        )
        match query.WhichOneof("query"):
            case "image" if query.by_hash:
                leg.perceptual_hash.CopyFrom(encoded[index].perceptual_hash)
            case "text" | "image" as kind:
                leg.embedding.CopyFrom(encoded[index].embedding)
                leg.modality = _MODALITIES[kind]
            case "perceptual_hash":
                leg.perceptual_hash.CopyFrom(query.perceptual_hash)
            case "embedding":
                leg.embedding.CopyFrom(query.embedding)
            case "item_id":
                leg.item_id = query.item_id
            case "caption_text":
                leg.caption_text = query.caption_text
    if request.HasField("min_score"):
        sent.min_score = request.min_score
    if request.HasField("min_relevance"):
        sent.min_relevance = request.min_relevance
    for name in ("filter", "tuning", "fusion", "group_by", "diversity", "read"):
        if request.HasField(name):
            getattr(sent, name).CopyFrom(getattr(request, name))
    if len(chosen) < len(request.queries):
        # Scores mean the same whether or not a query is left out, also where one leg is left.
        sent.fusion.SetInParent()
    return sent


def from_store(error: LensmeshError, prefix: str, chosen: Sequence[int]) -> LensmeshError:
    """Return the store's error with the paths of the caller's request, whose queries `chosen` became the legs."""

    def query(match: re.Match[str]) -> str:
        place = match.group(1)
        if place is None:
            return "queries"
        return f"queries[{chosen[int(place)] if int(place) < len(chosen) else place}]"

    def path(field: str) -> str:
        return prefix + _LEGS.sub(query, _SEARCHES.sub("", field))

    metadata = dict(error.metadata)
    if "field" in metadata:
        metadata["field"] = path(metadata["field"])
    keywords: dict[str, Any] = {
        "violations": [
            Violation(path(violation.field), _LEGS.sub(query, violation.description)) for violation in error.violations
        ],
        "retry_after_s": error.retry_after_s,
        "metadata": metadata,
    }
    if isinstance(error, UpstreamFault):
        keywords["code"] = error.code
    return type(error)(error.reason, _LEGS.sub(query, error.message), **keywords)
