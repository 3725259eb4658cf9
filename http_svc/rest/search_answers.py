"""What a search found, as JSON."""

import json

from http_svc.rest.shapes import GroupShape, HitShape, SearchShape
from http_svc.rest.values import ImageValues, failed, plain
from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2


def search_answer(
    found: router_pb2.SearchResponse, asked: router_pb2.SearchRequest, values: ImageValues
) -> SearchShape:
    """Return what was found."""
    hits = [hit(each, rank, values) for rank, each in enumerate(found.hits, asked.offset + 1)]
    groups = _groups(found, hits, list(asked.group_by.fields)) if asked.HasField("group_by") else None
    return {
        "hits": hits,
        "groups": groups,
        "exact": found.exact,
        "encode_ms": found.encode_us / 1000,
        "store_ms": found.store_us / 1000,
        "failed_queries": [{"name": each.name, "error": failed(each.error)} for each in found.failed_queries],
    }


def hit(message: search_pb2.Hit, rank: int, values: ImageValues) -> HitShape:
    """Return one hit."""
    return {
        "image": values.image(message.item),
        "score": message.score,
        "relevance": message.relevance if message.HasField("relevance") else None,
        "rank": rank,
        "legs": [{"name": leg.name, "score": leg.score, "rank": leg.rank} for leg in message.legs],
    }


def _groups(found: router_pb2.SearchResponse, hits: list[HitShape], fields: list[str]) -> list[GroupShape]:
    """Return the hits by their groups, in the order of each group's best."""
    groups: dict[str, GroupShape] = {}
    for number, (message, shown) in enumerate(zip(found.hits, hits, strict=True)):
        values = [plain(value) for value in message.group.values]
        # A hit that lacks one of the fields is a group of its own.
        key = json.dumps(values) if values else f"alone {number}"
        group = groups.setdefault(key, {"values": dict(zip(fields, values, strict=False)), "hits": []})
        group["hits"].append(shown)
    return list(groups.values())
