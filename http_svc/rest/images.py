"""Images as they are stored: made findable one at a time, listed, shown, removed."""

from typing import Annotated, Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from http_svc.answers import json_answer
from http_svc.json_bodies import parse_json
from http_svc.rest.asked import (
    FORM,
    JSON,
    AskedInQuery,
    check_type,
    fitted,
    path_text,
    read_json,
    read_parts,
    read_query,
)
from http_svc.rest.context import RestContext
from http_svc.rest.filters import DESCRIPTION, filter_of
from http_svc.rest.ingest_options import Captions, IngestQuery, NearAction, ingest_options, metadata_struct
from http_svc.rest.operations import OperationExample, PartField, RestOperation
from http_svc.rest.shapes import FailureShape, ImageShape, ImagesShape, IngestedShape
from http_svc.rest.sources import ImageSource, image_message, no_file, unknown_part
from http_svc.rest.values import address_of, failed, near, tags, word
from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InvalidInput, NotFound
from lensmesh_chassis.reasons import Reason
from lensmesh_client.guard import building

_MOST_PARTS = 16
_FIELDS = ("id", "caption", "metadata", "collection", "image_uri", "captions", "near_duplicates")


class ImageBody(ImageSource):
    """An image to make findable."""

    id: Annotated[str, Field(description="Its id; the digest of its bytes unless given.")] = ""
    caption: Annotated[str, Field(description="Used in place of a generated one.")] = ""
    metadata: Annotated[dict[str, Any] | None, Field(description="Kept with it.")] = None
    collection: Annotated[str, Field(description="The mesh's default collection unless given.")] = ""
    image_uri: Annotated[str, Field(description="Where the image lies; kept, never fetched.")] = ""
    captions: Captions = "best-effort"
    near_duplicates: NearAction | None = None


class ImageQuery(AskedInQuery):
    """Where an image is."""

    collection: str = ""


class ImagesQuery(AskedInQuery):
    """A page of images."""

    collection: str = ""
    page_size: Annotated[int, Field(ge=0, le=2**32 - 1, description="100 unless set.")] = 0
    page_token: Annotated[str, Field(description="`next_page_token` of the page before.")] = ""
    filter: Annotated[list[str], Field(default_factory=list, description=DESCRIPTION)]
    total: Annotated[bool, Field(description="Whether to count all of them too.")] = False


class ImageOperations:
    """/v1/images, and one of them."""

    def __init__(self, context: RestContext) -> None:
        self._context = context

    async def ingest(self, request: Request) -> Response:
        """Make one image findable."""
        asked, content = await self._read(request)
        with building("image"):
            item = router_pb2.IngestItem(
                id=asked.id,
                caption=asked.caption,
                image_uri=asked.image_uri,
                metadata=None if asked.metadata is None else metadata_struct(asked.metadata),
            )
            if content is not None:
                item.image.content = content
            else:
                item.image.CopyFrom(image_message(asked, ""))
            query = IngestQuery(
                collection=asked.collection, captions=asked.captions, near_duplicates=asked.near_duplicates
            )
            message = router_pb2.IngestRequest(options=ingest_options(query), item=item)
        mesh = self._context.mesh
        made = (await mesh.call(mesh.router.Ingest, message)).item
        outcome = word(made.outcome, search_pb2.UpsertOutcome, "UPSERT_OUTCOME_")
        answer: IngestedShape = {
            "image": await self._stored(made.id, asked.collection),
            "outcome": outcome,  # type: ignore[typeddict-item]  # one of the contract's words
            "encode_ms": made.encode.total_us / 1000,
            "caption_ms": made.describe.total_us / 1000,
            "store_ms": made.store_us / 1000,
        }
        if made.HasField("near_duplicate"):
            answer["near_duplicate"] = near(made.near_duplicate)
        if made.tags:
            answer["tags"] = tags(made.tags)
        if made.HasField("caption_error"):
            answer["caption_error"] = failed(made.caption_error)
        shown = json_answer(request, answer, 201 if outcome == "created" else 200)
        shown.headers["location"] = address_of(made.id)
        return shown

    async def list(self, request: Request) -> Response:
        """Show a page of images."""
        asked = read_query(request, ImagesQuery)
        context, mesh = self._context, self._context.mesh
        values = await context.image_values(asked.collection)
        chosen = filter_of(asked.filter)
        with building("page"):
            message = search_pb2.ListItemsRequest(
                collection=values.collection, filter=chosen, page_size=asked.page_size, page_token=asked.page_token
            )
        page = await mesh.call(mesh.search.ListItems, message)
        answer: ImagesShape = {
            "images": [values.image(item) for item in page.items],
            "next_page_token": page.next_page_token,
        }
        if asked.total:
            answer["total"] = await count(context, values.collection, chosen)
        return json_answer(request, answer)

    async def get(self, request: Request) -> Response:
        """Show one image."""
        image_id = path_text(request, "id")
        found = await self._stored(image_id, read_query(request, ImageQuery).collection)
        if found is None:
            raise _missing(image_id)
        return json_answer(request, found)

    async def delete(self, request: Request) -> Response:
        """Remove one image."""
        image_id = path_text(request, "id")
        mesh = self._context.mesh
        collection = await self._context.known.collection(read_query(request, ImageQuery).collection)
        with building("image"):
            message = search_pb2.DeleteItemsRequest(collection=collection, ids=search_pb2.IdList(ids=[image_id]))
        if not (await mesh.call(mesh.search.DeleteItems, message)).deleted_count:
            raise _missing(image_id)
        return Response(status_code=204)

    async def thumbnail(self, request: Request) -> Response:
        """Tell where the thumbnail of an image is."""
        image_id = path_text(request, "id")
        found = await self._stored(image_id, read_query(request, ImageQuery).collection)
        if found is None:
            raise _missing(image_id)
        if not found["thumbnail"]:
            raise NotFound(Reason.MEDIA_NOT_FOUND, "the mesh keeps no thumbnail of this image: see GET /v1/status")
        return RedirectResponse(found["thumbnail"], 302, headers={"cache-control": "no-cache"})

    async def _read(self, request: Request) -> tuple[ImageBody, bytes | None]:
        settings = self._context.settings
        if check_type(request, JSON, FORM) == JSON:
            return await read_json(request, ImageBody, settings), None
        content: bytes | None = None
        given: dict[str, Any] = {}
        for part in await read_parts(request, settings, _MOST_PARTS):
            if part.name == "file":
                if content is not None:
                    raise InvalidInput(
                        Reason.TOO_MANY_ITEMS,
                        "the body has several files: send one, or many of them by POST /v1/ingest",
                        field="file",
                    )
                content = part.content
            elif part.name in given or part.name not in _FIELDS:
                raise unknown_part(part.name, ("file", *_FIELDS))
            else:
                is_json = part.name == "metadata"
                given[part.name] = parse_json(part.content, settings.body_values) if is_json else part.text()
        if content is None:
            raise no_file("file")
        return fitted(ImageBody, given), content

    async def _stored(self, image_id: str, collection: str) -> ImageShape | None:
        context, mesh = self._context, self._context.mesh
        values = await context.image_values(collection)
        with building("image"):
            message = search_pb2.GetItemsRequest(collection=values.collection, ids=[image_id])
        found = await mesh.call(mesh.search.GetItems, message)
        return values.image(found.items[0]) if found.items else None


async def count(context: RestContext, collection: str, chosen: search_pb2.Filter | None) -> int:
    """Return how many images a filter chooses."""
    by_year = search_pb2.CountsByTime(field="$create_time", interval=search_pb2.TIME_INTERVAL_YEAR)
    message = search_pb2.AggregateRequest(
        collection=collection,
        filter=chosen,
        aggregations=[search_pb2.Aggregation(name="years", counts_by_time=by_year)],
    )
    told = await context.mesh.call(context.mesh.search.Aggregate, message)
    return int(told.item_count)


def _missing(image_id: str) -> NotFound:
    return NotFound(Reason.ITEM_NOT_FOUND, f"there is no image {image_id[:256]!r} in this collection", field="id")


_TAG = "images"
_ID = {"id": "The image's id, percent-encoded: a slash as %2F."}


def image_operations(context: RestContext) -> list[RestOperation]:
    """Return the operations."""
    own = ImageOperations(context)
    return [
        RestOperation(
            "POST",
            "/v1/images",
            "ingestImage",
            _TAG,
            "Make one image findable",
            own.ingest,
            description="The answer comes once the image is durable.",
            body=ImageBody,
            parts=(
                PartField("file", "The image; one. Many: POST /v1/ingest.", file=True, required=True),
                PartField("id", "Its id; the digest of its bytes unless given."),
                PartField("caption", "Used in place of a generated one."),
                PartField("metadata", "JSON, kept with it."),
                PartField("collection", "The mesh's default collection unless given."),
                PartField("image_uri", "Where the image lies; kept, never fetched."),
                PartField("captions", "`best-effort`, `required` or `none`."),
                PartField("near_duplicates", "`store`, `mark` or `skip`."),
            ),
            answers={201: IngestedShape, 200: IngestedShape, 400: FailureShape, 413: FailureShape},
            examples=(
                OperationExample(
                    "A file",
                    parts=(("file", "@image"), ("id", "circle/1"), ("metadata", '{"kind": "drawn"}')),
                    status=201,
                ),
            ),
        ),
        RestOperation(
            "GET",
            "/v1/images",
            "listImages",
            _TAG,
            "List images, page by page",
            own.list,
            description="In an order of the store's choosing: every image that is there all the while comes once.",
            parameters=ImagesQuery,
            answers={200: ImagesShape, 400: FailureShape},
            examples=(OperationExample("A page", query={"page_size": 5, "total": "true"}),),
        ),
        RestOperation(
            "GET",
            "/v1/images/{id}",
            "getImage",
            _TAG,
            "Show one image",
            own.get,
            path_parameters=_ID,
            parameters=ImageQuery,
            answers={200: ImageShape, 404: FailureShape},
            examples=(OperationExample("One", path={"id": "circle/1"}),),
        ),
        RestOperation(
            "DELETE",
            "/v1/images/{id}",
            "deleteImage",
            _TAG,
            "Remove one image",
            own.delete,
            path_parameters=_ID,
            parameters=ImageQuery,
            answers={204: None, 404: FailureShape},
            examples=(OperationExample("One that is not there", path={"id": "nobody"}, status=404),),
        ),
        RestOperation(
            "GET",
            "/v1/images/{id}/thumbnail",
            "getThumbnailOfImage",
            _TAG,
            "Find the thumbnail of an image",
            own.thumbnail,
            path_parameters=_ID,
            parameters=ImageQuery,
            answers={302: None, 404: FailureShape},
            examples=(OperationExample("One that is not there", path={"id": "nobody"}, status=404),),
        ),
    ]
