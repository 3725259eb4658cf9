"""Collections: made, shown, removed; and how many of their images have which values."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from http_svc.answers import json_answer
from http_svc.rest.asked import Asked, AskedInQuery, path_text, read_json, read_query
from http_svc.rest.context import RestContext
from http_svc.rest.filters import DESCRIPTION, filter_of
from http_svc.rest.operations import OperationExample, RestOperation
from http_svc.rest.shapes import (
    CalibrationShape,
    CollectionShape,
    CollectionsShape,
    DeletedShape,
    FacetShape,
    FacetsShape,
    FailureShape,
    NamedSpaceShape,
)
from http_svc.rest.values import failed, moment, plain, space, word
from lensmesh.common.v1 import common_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason
from lensmesh_client.guard import building

_UINT32 = 2**32 - 1


class SpaceBody(Asked):
    """A kind of vector that images have."""

    name: str
    space_id: Annotated[str, Field(description="A space that an encoder serves; the default one, unless given.")] = ""
    index: Literal["hnsw", "flat"] = "hnsw"


class CollectionBody(Asked):
    """A collection to make."""

    name: Annotated[str, Field(description='1 to 63 of a-z, 0-9, "-" and "_", beginning with a letter.')]
    spaces: Annotated[
        list[SpaceBody], Field(default_factory=list, description='One, "image", of the default encoder, unless given.')
    ]
    fields: Annotated[
        dict[str, Literal["keyword", "number", "bool", "time", "text"]],
        Field(default_factory=dict, description="Metadata fields that facets count and filters use."),
    ]
    language: Annotated[str, Field(description='Of captions: an ISO 639-1 code; "en" unless given.')] = ""
    local_features: bool = False


class PageQuery(AskedInQuery):
    """A page."""

    page_size: Annotated[int, Field(ge=0, le=_UINT32, description="100 unless set.")] = 0
    page_token: Annotated[str, Field(description="`next_page_token` of the page before.")] = ""


class FacetsQuery(AskedInQuery):
    """Fields whose values are counted."""

    commas: ClassVar[frozenset[str]] = frozenset({"fields"})

    collection: str = ""
    fields: Annotated[list[str], Field(default_factory=list, description="With commas between them, 1 to 16.")]
    limit: Annotated[int, Field(ge=0, le=_UINT32, description="Values of each; 20 unless set.")] = 0
    filter: Annotated[list[str], Field(default_factory=list, description=DESCRIPTION)]


class NoQuery(AskedInQuery):
    """A query string with nothing in it."""


class CollectionOperations:
    """/v1/collections and /v1/facets."""

    def __init__(self, context: RestContext) -> None:
        self._context = context

    async def list(self, request: Request) -> Response:
        """Show a page of collections."""
        asked = read_query(request, PageQuery)
        mesh = self._context.mesh
        with building("page"):
            message = search_pb2.ListCollectionsRequest(page_size=asked.page_size, page_token=asked.page_token)
        page = await mesh.call(mesh.search.ListCollections, message)
        answer: CollectionsShape = {
            "collections": [collection(each) for each in page.collections],
            "next_page_token": page.next_page_token,
        }
        return json_answer(request, answer)

    async def create(self, request: Request) -> Response:
        """Make a collection."""
        asked = await read_json(request, CollectionBody, self._context.settings)
        mesh = self._context.mesh
        with building("collection"):
            made = search_pb2.Collection(
                name=asked.name,
                language=asked.language,
                local_features=asked.local_features,
                field_indexes=[
                    search_pb2.FieldIndex(field=field, type=search_pb2.FieldType.Value(f"FIELD_TYPE_{kind.upper()}"))
                    for field, kind in asked.fields.items()
                ],
            )
            for number, each in enumerate(asked.spaces or [SpaceBody(name="image")]):
                named = made.spaces.add(name=each.name, space=await self._space(each.space_id, f"spaces[{number}]"))
                if each.index == "flat":
                    named.index.flat.SetInParent()
        found = await mesh.call(mesh.search.CreateCollection, search_pb2.CreateCollectionRequest(collection=made))
        return json_answer(request, collection(found.collection), 201)

    async def get(self, request: Request) -> Response:
        """Show one collection."""
        read_query(request, NoQuery)
        return json_answer(request, collection(await self._found(request)))

    async def delete(self, request: Request) -> Response:
        """Remove a collection with all its images."""
        read_query(request, NoQuery)
        mesh = self._context.mesh
        name = (await self._found(request)).name
        gone = await mesh.call(mesh.search.DeleteCollection, search_pb2.DeleteCollectionRequest(name=name))
        answer: DeletedShape = {"deleted_count": gone.deleted_count}
        return json_answer(request, answer)

    async def facets(self, request: Request) -> Response:
        """Count images by the values of fields."""
        asked = read_query(request, FacetsQuery)
        if not asked.fields:
            raise InvalidInput(Reason.OPTION_INVALID, "fields is empty: name one at least", field="fields")
        mesh = self._context.mesh
        collection = await self._context.known.collection(asked.collection)
        with building("facets"):
            message = search_pb2.AggregateRequest(
                collection=collection,
                filter=filter_of(asked.filter),
                aggregations=[
                    search_pb2.Aggregation(
                        name=str(number), value_counts=search_pb2.ValueCounts(field=field, limit=asked.limit)
                    )
                    for number, field in enumerate(asked.fields)
                ],
            )
        told = await mesh.call(mesh.search.Aggregate, message)
        answer: FacetsShape = {
            "facets": [_facet(name, each) for name, each in zip(asked.fields, told.results, strict=False)],
            "total": told.item_count,
        }
        return json_answer(request, answer)

    async def _found(self, request: Request) -> search_pb2.Collection:
        mesh = self._context.mesh
        with building("name"):
            message = search_pb2.GetCollectionRequest(name=path_text(request, "name"))
        found: search_pb2.Collection = (await mesh.call(mesh.search.GetCollection, message)).collection
        return found

    async def _space(self, space_id: str, field: str) -> common_pb2.VectorSpace:
        if not space_id:
            return await self._context.known.default_space()
        served = await self._context.known.spaces()
        if space_id not in served:
            raise InvalidInput(
                Reason.SPACE_NOT_SERVED,
                f"{field}.space_id is {space_id[:80]!r}, and no encoder serves it: {', '.join(served)} are served",
                field=f"{field}.space_id",
            )
        return served[space_id]


def collection(message: search_pb2.Collection) -> CollectionShape:
    """Return a collection."""
    return {
        "name": message.name,
        "uid": message.uid,
        "item_count": message.item_count,
        "created_at": moment(message.create_time),
        "language": message.language,
        "local_features": message.local_features,
        "spaces": [_named_space(each) for each in message.spaces],
        "fields": [
            {"field": each.field, "type": word(each.type, search_pb2.FieldType, "FIELD_TYPE_")}
            for each in message.field_indexes
        ],
    }


def _named_space(message: search_pb2.NamedSpace) -> NamedSpaceShape:
    status = message.index_status
    return {
        "name": message.name,
        "space": space(message.space),
        "index": word(status.state, search_pb2.IndexState, "INDEX_STATE_"),
        "index_progress": status.progress,
        "index_error": failed(status.error) if status.HasField("error") else None,
        "calibrations": [calibration(each) for each in message.calibrations],
    }


def calibration(message: search_pb2.Calibration) -> CalibrationShape:
    """Return what cosines of a modality mean."""
    return {
        "modality": word(message.modality, common_pb2.Modality, "MODALITY_"),
        "median": message.median,
        "p90": message.p90,
        "p99": message.p99,
        "p999": message.p999,
        "match_median": message.match_median,
        "measured_at": moment(message.measure_time),
    }


def _facet(field: str, result: search_pb2.AggregationResult) -> FacetShape:
    message = result.value_counts
    return {
        "field": field,
        "values": [{"value": plain(each.value), "count": each.count} for each in message.counts],
        "other_count": message.other_count,
    }


_TAG = "collections"
_NAME = {"name": "The collection's name."}
_BAD: dict[int, Any] = {400: FailureShape, 404: FailureShape}


def collection_operations(context: RestContext) -> list[RestOperation]:
    """Return the operations."""
    own = CollectionOperations(context)
    return [
        RestOperation(
            "GET",
            "/v1/collections",
            "listCollections",
            _TAG,
            "List collections",
            own.list,
            parameters=PageQuery,
            answers={200: CollectionsShape, 400: FailureShape},
            examples=(OperationExample("All"),),
        ),
        RestOperation(
            "POST",
            "/v1/collections",
            "createCollection",
            _TAG,
            "Make a collection",
            own.create,
            description="The same definition again is answered with what is there.",
            body=CollectionBody,
            answers={201: CollectionShape, 400: FailureShape, 409: FailureShape},
            examples=(
                OperationExample("With a facet", json={"name": "shapes", "fields": {"kind": "keyword"}}, status=201),
            ),
        ),
        RestOperation(
            "GET",
            "/v1/collections/{name}",
            "getCollection",
            _TAG,
            "Show a collection",
            own.get,
            path_parameters=_NAME,
            answers={200: CollectionShape, **_BAD},
            examples=(OperationExample("One", path={"name": "shapes"}),),
        ),
        RestOperation(
            "GET",
            "/v1/facets",
            "countFacets",
            _TAG,
            "Count images by the values of metadata fields",
            own.facets,
            parameters=FacetsQuery,
            answers={200: FacetsShape, **_BAD},
            examples=(OperationExample("One field", query={"collection": "shapes", "fields": "kind"}),),
        ),
        RestOperation(
            "DELETE",
            "/v1/collections/{name}",
            "deleteCollection",
            _TAG,
            "Remove a collection with all its images",
            own.delete,
            path_parameters=_NAME,
            answers={200: DeletedShape, **_BAD},
            examples=(OperationExample("One", path={"name": "shapes"}),),
        ),
    ]
