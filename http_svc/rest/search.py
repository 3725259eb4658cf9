"""Searching: by words of the query string, by a body of several queries, by a file, and near to an image."""

import itertools
import struct
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from http_svc.answers import json_answer
from http_svc.rest.asked import path_text, read_query
from http_svc.rest.context import RestContext
from http_svc.rest.filters import filter_of
from http_svc.rest.operations import OperationExample, PartField, RestOperation
from http_svc.rest.search_answers import search_answer
from http_svc.rest.search_asked import (
    FusionBody,
    GroupByBody,
    QueryBody,
    RankedQuery,
    SearchBody,
    SearchQuery,
    SimilarQuery,
)
from http_svc.rest.shapes import FailureShape, SearchShape
from http_svc.rest.sources import image_message, read_images
from lensmesh.common.v1 import common_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason
from lensmesh_client.guard import building


class SearchOperations:
    """GET and POST /v1/search, GET /v1/similar/{id}."""

    def __init__(self, context: RestContext) -> None:
        self._context = context

    async def by_query(self, request: Request) -> Response:
        """Search by the query string."""
        asked = read_query(request, SearchQuery)
        with building("search"):
            queries = [router_pb2.Query(name=name, text=q) for name, q in _numbered("text", asked.q)]
            queries += [router_pb2.Query(name=name, caption_text=q) for name, q in _numbered("words", asked.words)]
            queries += [router_pb2.Query(name=name, item_id=q) for name, q in _numbered("like", asked.like)]
            queries += [router_pb2.Query(name=name, text=q, weight=-1) for name, q in _numbered("not", asked.not_)]
            if not queries:
                raise _nothing("q, words or like")
            message = _ranked(asked, queries)
        return await self._answer(request, message)

    async def by_body(self, request: Request) -> Response:
        """Search by a body: JSON, or a file with JSON beside it."""
        asked, images = await read_images(request, SearchBody, self._context.settings)
        with building("search"):
            queries = [await self._query(each, f"queries[{n}]", asked) for n, each in enumerate(asked.queries)]
            queries += [router_pb2.Query(image=image) for image in images]
            if not queries:
                raise _nothing("queries")
            _name_all(queries)
            message = router_pb2.SearchRequest(
                collection=asked.collection,
                queries=queries,
                filter=filter_of(asked.filter),
                limit=asked.limit or 0,
                offset=asked.offset,
                min_score=asked.min_score,
                min_relevance=asked.min_relevance,
                group_by=_group_by(asked.group_by),
                diversity=None if asked.diversity is None else search_pb2.Diversity(strength=asked.diversity),
                fusion=_fusion(asked.fusion),
                partial=asked.partial,
            )
        return await self._answer(request, message)

    async def similar(self, request: Request) -> Response:
        """Search near to a stored image."""
        asked = read_query(request, SimilarQuery)
        with building("search"):
            query = router_pb2.Query(item_id=path_text(request, "id"), space=asked.space)
            message = _ranked(asked, [query])
        return await self._answer(request, message)

    async def _query(self, asked: QueryBody, field: str, search: SearchBody) -> router_pb2.Query:
        kinds = [kind for kind in ("text", "words", "image", "id", "vector") if getattr(asked, kind) is not None]
        if len(kinds) != 1:
            raise InvalidInput(
                Reason.QUERY_INVALID,
                f"{field} takes exactly one of text, words, image, id and vector; given: {', '.join(kinds) or 'none'}",
                field=field,
            )
        if not asked.weight:
            raise InvalidInput(
                Reason.QUERY_INVALID, f"{field}.weight is 0, which counts for nothing: leave the query out", field=field
            )
        message = router_pb2.Query(
            name=asked.name, space=asked.space, by_hash=asked.by_hash, text_fields=asked.text_fields
        )
        if asked.weight != 1:
            message.weight = asked.weight
        if asked.text is not None:
            message.text = asked.text
        elif asked.words is not None:
            message.caption_text = asked.words
        elif asked.image is not None:
            message.image.CopyFrom(image_message(asked.image, f"{field}.image"))
        elif asked.id is not None:
            message.item_id = asked.id
        elif asked.vector is not None:
            space_id = asked.space_id or (await self._context.known.named_space(search.collection, asked.space)).id
            message.embedding.CopyFrom(_embedding(asked.vector, space_id, field))
        return message

    async def _answer(self, request: Request, message: router_pb2.SearchRequest) -> Response:
        context = self._context
        found = await context.mesh.call(context.mesh.router.Search, message)
        values = await context.image_values(message.collection)
        return json_answer(request, search_answer(found, message, values))


def _ranked(asked: RankedQuery, queries: list[router_pb2.Query]) -> router_pb2.SearchRequest:
    if len(queries) == 1:
        queries[0].name = ""
    return router_pb2.SearchRequest(
        collection=asked.collection,
        queries=queries,
        filter=filter_of(asked.filter),
        limit=asked.limit or 0,
        offset=asked.offset,
        min_score=asked.min_score,
        min_relevance=asked.min_relevance,
        group_by=search_pb2.GroupBy(fields=asked.group_by, size=asked.group_size) if asked.group_by else None,
        diversity=None if asked.diversity is None else search_pb2.Diversity(strength=asked.diversity),
        partial=asked.partial,
    )


def _group_by(asked: GroupByBody | None) -> search_pb2.GroupBy | None:
    return None if asked is None else search_pb2.GroupBy(fields=asked.fields, size=asked.size)


def _fusion(asked: FusionBody | None) -> search_pb2.Fusion | None:
    if asked is None:
        return None
    method = search_pb2.FUSION_METHOD_RRF if asked.method == "rrf" else search_pb2.FUSION_METHOD_WEIGHTED
    return search_pb2.Fusion(method=method, rrf_k=asked.k)


def _embedding(numbers: list[float], space_id: str, field: str) -> common_pb2.Embedding:
    try:
        data = struct.pack(f"<{len(numbers)}f", *numbers)
    except (struct.error, OverflowError):
        raise InvalidInput(
            Reason.VECTOR_INVALID, f"{field}.vector has a number beyond float32: scale it down", field=f"{field}.vector"
        ) from None
    return common_pb2.Embedding(
        space_id=space_id, data_type=common_pb2.DATA_TYPE_FLOAT32, dimension=len(numbers), data=data
    )


def _numbered(kind: str, texts: list[str]) -> list[tuple[str, str]]:
    return [(kind if number == 1 else f"{kind}{number}", text) for number, text in enumerate(texts, 1)]


_KINDS = {"caption_text": "words", "item_id": "like", "embedding": "vector"}


def _name_all(queries: list[router_pb2.Query]) -> None:
    """Give those without a name one after their kind, where there are several."""
    if len(queries) < 2:
        return
    taken = {query.name for query in queries}
    for query in queries:
        if query.name:
            continue
        field = str(query.WhichOneof("query"))
        kind = _KINDS.get(field, field)
        numbered = (kind if number == 1 else f"{kind}{number}" for number in itertools.count(1))
        query.name = next(name for name in numbered if name not in taken)
        taken.add(query.name)


def _nothing(field: str) -> InvalidInput:
    return InvalidInput(
        Reason.QUERY_INVALID, f"there is nothing to be near to: give {field}", field=field.split(",")[0]
    )


_TAG = "search"
_ANSWERS: dict[int, Any] = {200: SearchShape, 400: FailureShape}


def search_operations(context: RestContext) -> list[RestOperation]:
    """Return the operations."""
    own = SearchOperations(context)
    return [
        RestOperation(
            "GET",
            "/v1/search",
            "searchImages",
            _TAG,
            "Find images by text, by words of their captions, by other images",
            own.by_query,
            parameters=SearchQuery,
            answers=_ANSWERS,
            examples=(
                OperationExample("A text", query={"q": "a red circle", "limit": 3}),
                OperationExample(
                    "Several", query={"q": ["a circle", "a blue shape"], "not": "a triangle", "filter": "kind=drawn"}
                ),
            ),
        ),
        RestOperation(
            "POST",
            "/v1/search",
            "searchImagesByBody",
            _TAG,
            "Find images by several queries, or by a file",
            own.by_body,
            body=SearchBody,
            parts=(
                PartField("image", "The image to search by; may repeat.", file=True, many=True, required=True),
                PartField("request", "The search, as the body of JSON has it."),
            ),
            answers=_ANSWERS,
            examples=(
                OperationExample(
                    "Text and words",
                    json={
                        "queries": [{"text": "a circle"}, {"words": "circle", "weight": 0.5}],
                        "group_by": {"fields": ["kind"], "size": 2},
                        "limit": 5,
                    },
                ),
                OperationExample("A file", parts=(("image", "@image"), ("request", '{"limit": 2}'))),
            ),
        ),
        RestOperation(
            "GET",
            "/v1/similar/{id}",
            "similarImages",
            _TAG,
            "Find images like one that is stored",
            own.similar,
            path_parameters={"id": "The image's id, percent-encoded."},
            parameters=SimilarQuery,
            answers={**_ANSWERS, 404: FailureShape},
            examples=(OperationExample("Three", path={"id": "circle/1"}, query={"limit": 3}),),
        ),
    ]
