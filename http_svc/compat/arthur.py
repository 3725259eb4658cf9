"""The addresses of Arthur image recognition, version 1: which artist's work an image shows, and the index of these."""

import asyncio
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from http_svc.answers import json_answer
from http_svc.compat.arthur_items import (
    ARTIST,
    ENTRY,
    ArthurContext,
    image_at,
    image_of,
    is_missing_collection,
    names_of,
    of_artist,
    read_fields,
)
from http_svc.compat.inputs import read_inputs
from http_svc.errors import ErrorView
from http_svc.rest.asked import path_text
from http_svc.rest.operations import RawPathRoute
from lensmesh.common.v1 import common_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InvalidInput, LensmeshError, NotFound, PreconditionFailed
from lensmesh_chassis.process.server_info import version
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import from_status
from lensmesh_client.arthur import ViewNames

# What the verdicts begin at, as docs/matching.md has them.
_MATCH, _UNSURE = 0.8, 0.5
_MOST_MATCHES = 10
MOST_IMAGES = 256
"""Images of one request to add."""
_AT_ONCE = 8
_PATH_NAMES = ("artist_id", "entry_id", "view_id")
_JSON_NAMES = ("artistId", "entryId", "viewId")
_VERDICTS = {
    router_pb2.MATCH_VERDICT_MATCH: ("match", "Matched"),
    router_pb2.MATCH_VERDICT_UNSURE: ("unsure", "Matched"),
}
_CONNECTED, _DISCONNECTED = "connected", "disconnected"


class Arthur:
    """Handlers of `/match`, `/artist/image`, `/status` and `/unified-index`."""

    def __init__(self, context: ArthurContext) -> None:
        self._context, self._mesh = context, context.mesh

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        return [
            Route("/match", self.match, methods=["POST"]),
            RawPathRoute("/match/{artist_id}", self.match, ["POST"]),
            Route("/artist/image", self.add_many, methods=["POST"]),
            RawPathRoute("/artist/image/{artist_id}/{entry_id}/{view_id}", self.one_image, ["POST", "DELETE"]),
            Route("/status", self.status),
            Route("/unified-index", self.rebuild, methods=["POST"]),
        ]

    async def match(self, request: Request) -> Response:
        """Tell which entries an image shows: sure ones first, then those that a person should look at."""
        image = image_of(await read_fields(request, self._context.settings))
        asked = router_pb2.MatchImagesRequest(
            collection=self._context.collection,
            images=[image],
            entry_fields=[ARTIST, ENTRY],
            alternatives=_MOST_MATCHES - 1,
            thresholds=router_pb2.MatchThresholds(match=_MATCH, unsure=_UNSURE),
        )
        if "artist_id" in request.path_params:
            asked.filter.CopyFrom(of_artist(path_text(request, "artist_id")))
        try:
            (result,) = (await self._mesh.call(self._mesh.router.MatchImages, asked)).results
        except NotFound as error:
            if not is_missing_collection(error):
                raise
            result = router_pb2.MatchResult(match=router_pb2.ImageMatch())
        if result.WhichOneof("outcome") != "match":
            raise from_status(result.error)
        verdict, message = _VERDICTS.get(result.match.verdict, ("no_match", "No match found"))
        matches = _matches(result.match) if verdict != "no_match" else []
        return json_answer(request, {"matches": matches, "status": "success", "message": message, "verdict": verdict})

    async def one_image(self, request: Request) -> Response:
        """Add the image of an address, or remove it."""
        names = ViewNames(*(path_text(request, name) for name in _PATH_NAMES))
        item_id = names.item_id(_PATH_NAMES)
        if request.method == "DELETE":
            await self._remove(item_id, names)
            return _done(request, f"Removed image {names.path} from index")
        image = image_of(await read_fields(request, self._context.settings))
        await self._context.find_or_make()
        await self._context.add(names, item_id, image)
        return _done(request, f"Added image {names.path} to index")

    async def add_many(self, request: Request) -> Response:
        """Add images by their addresses. One that cannot be added fails alone, unless all do."""
        wanted = _listed((await read_inputs(request, self._context.settings)).values.get("images"))
        await self._context.find_or_make()
        turns = asyncio.Semaphore(_AT_ONCE)

        async def add(names: ViewNames, item_id: str, image: common_pb2.Image) -> LensmeshError | None:
            async with turns:
                try:
                    await self._context.add(names, item_id, image)
                except LensmeshError as error:
                    return error
            return None

        failed = list(await asyncio.gather(*(add(*one) for one in wanted)))
        errors = [error for error in failed if error is not None]
        if len(errors) == len(wanted):
            raise errors[0]
        if not errors:
            if len(wanted) == 1:
                return _done(request, f"Added image {wanted[0][0].path} to index")
            return _done(request, f"Added {len(wanted)} images to index")
        shown = [
            {"index": index, "image": wanted[index][0].path, "error": ErrorView.of(error).json()}
            for index, error in enumerate(failed)
            if error is not None
        ]
        added = len(wanted) - len(errors)
        message = f"Added {added} of {len(wanted)} images to index"
        return json_answer(request, {"status": "partial", "message": message, "failed": shown})

    async def status(self, request: Request) -> Response:
        """Tell how much is indexed. A store that does not answer is told in words, and its counts are null."""
        state, artists, images = _CONNECTED, None, None
        try:
            artists, images = await self._counts()
        except PreconditionFailed:
            # A collection that was made elsewhere, without an index of artists.
            found = await self._context.find()
            images = found.item_count if found is not None else 0
        except LensmeshError:
            state = _DISCONNECTED
        return json_answer(
            request,
            {
                "status": "running",
                "version": version(),
                "indexed_artists": artists,
                "total_images": images,
                # One store keeps both.
                "vector_db_status": state,
                "database_status": state,
            },
        )

    async def rebuild(self, request: Request) -> Response:
        """Begin to build the indexes anew. `/ws/index-progress` tells how far it is."""
        await self._context.find_or_make()
        asked = search_pb2.StartRebuildIndexesRequest(collection=self._context.collection)
        job = (await self._mesh.call(self._mesh.search.StartRebuildIndexes, asked)).job
        return _done(request, "Index rebuild started", job_id=job.id)

    async def _remove(self, item_id: str, names: ViewNames) -> None:
        asked = search_pb2.DeleteItemsRequest(collection=self._context.collection, ids=search_pb2.IdList(ids=[item_id]))
        if not (await self._mesh.call(self._mesh.search.DeleteItems, asked)).deleted_count:
            raise NotFound(
                Reason.ITEM_NOT_FOUND, f"the image {names.path[:200]} is not in the index", metadata={"id": item_id}
            )

    async def _counts(self) -> tuple[int, int]:
        """Return how many artists and images there are."""
        distinct = search_pb2.DistinctCount(field=ARTIST)
        asked = search_pb2.AggregateRequest(
            collection=self._context.collection,
            aggregations=[search_pb2.Aggregation(name="artists", distinct_count=distinct)],
        )
        try:
            told = await self._mesh.call(self._mesh.search.Aggregate, asked)
        except NotFound as error:
            if not is_missing_collection(error):
                raise
            return 0, 0
        return sum(each.distinct_count for each in told.results), told.item_count


def _done(request: Request, message: str, **more: str) -> Response:
    return json_answer(request, {"status": "success", "message": message, **more})


def _matches(match: router_pb2.ImageMatch) -> list[dict[str, str]]:
    """Return the entries that an image may show, best first. A score is a text, as these clients read it."""
    shown = []
    for candidate in [match.best, *match.alternatives]:
        if candidate.confidence < _UNSURE and candidate is not match.best:
            continue
        names = names_of(candidate.item)
        score = str(round(candidate.confidence, 4))
        shown.append({"artistId": names.artist, "entryId": names.entry, "viewId": names.view, "score": score})
    return shown


def _listed(images: Any) -> list[tuple[ViewNames, str, common_pb2.Image]]:
    """Return the names, ids and images of a list. Raises InvalidInput that names the entry and the field."""
    if not isinstance(images, list) or not images:
        raise InvalidInput(
            Reason.NO_ITEMS,
            'images has to be a list such as [{"artistId": "a", "entryId": "e", "viewId": "v", "imgUrl": "https://..."}]',
            field="images",
        )
    if len(images) > MOST_IMAGES:
        raise InvalidInput(
            Reason.TOO_MANY_ITEMS,
            f"images has {len(images)} entries and the limit is {MOST_IMAGES}: send several requests",
            field="images",
            metadata={"limit": MOST_IMAGES},
        )
    found: dict[str, tuple[ViewNames, str, common_pb2.Image]] = {}
    for index, entry in enumerate(images):
        place = f"images[{index}]"
        if not isinstance(entry, dict):
            raise InvalidInput(Reason.OPTION_INVALID, f"{place} has to be an object", field=place)
        fields = tuple(f"{place}.{name}" for name in _JSON_NAMES)
        names = ViewNames(*(_name(entry, *each) for each in zip(_JSON_NAMES, _PATH_NAMES, fields, strict=True)))
        item_id = names.item_id((fields[0], fields[1], fields[2]))
        if item_id in found:
            raise InvalidInput(
                Reason.ITEM_ID_DUPLICATE, f"{place} is {names.path} once more: send each image once", field=place
            )
        found[item_id] = names, item_id, image_at(entry, f"{place}.imgUrl")
    return list(found.values())


def _name(entry: dict[str, Any], camel: str, snake: str, field: str) -> str:
    value = entry.get(camel, entry.get(snake))
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise InvalidInput(Reason.OPTION_INVALID, f"{field} has to be a text", field=field)
    return value
