"""The addresses of Arthur image recognition, version 2, under /api/v1: batches, similar images, artists in figures."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from http_svc.answers import json_answer
from http_svc.compat.arthur_artists import ArtistFigures
from http_svc.compat.arthur_items import ARTIST, ArthurContext, is_missing_collection, names_of, read_fields
from http_svc.compat.inputs import RequestInputs, image_of_text, read_inputs
from http_svc.errors import ErrorView
from http_svc.rest.asked import path_text
from http_svc.rest.operations import RawPathRoute
from http_svc.rest.values import plain_fields
from lensmesh.common.v1 import common_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InvalidInput, LensmeshError, Overloaded, Unavailable
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import from_status

_THRESHOLD = 0.7
_MOST_RESULTS, _MOST_BATCH_RESULTS = 1000, 100
# From where on a similarity is called so.
_HIGH, _MEDIUM = 0.9, 0.7
_MOST_IMAGES = 256
_MOST_ARTISTS = 1000


class ArthurV2:
    """Handlers of the addresses under `/api/v1`."""

    def __init__(self, context: ArthurContext, registry: CollectorRegistry) -> None:
        self._context, self._mesh = context, context.mesh
        self._registry = registry
        self._figures = ArtistFigures(context)

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        return [
            Route("/api/v1/docs", self.docs),
            Route("/api/v1/metrics", self.metrics),
            Route("/api/v1/batch/match", self.batch, methods=["POST"]),
            RawPathRoute("/api/v1/similar/{image_id}", self.similar, ["GET", "POST"]),
            RawPathRoute("/api/v1/artists/{artist_id}/analytics", self.analytics, ["GET"]),
        ]

    async def docs(self, _request: Request) -> Response:
        """Lead to the documentation."""
        return RedirectResponse("/docs", 307)

    async def metrics(self, request: Request) -> Response:
        """Show the metrics of this process, as its own endpoint does."""
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(self._registry), headers={"content-type": content_type})

    async def batch(self, request: Request) -> Response:
        """Find the images that are similar to each of some. One that cannot be read fails alone."""
        began = time.perf_counter()
        inputs = await read_inputs(request, self._context.settings)
        given = _images(inputs)
        threshold = _share(inputs, "similarity_threshold")
        limit = inputs.number("max_results_per_image", 10, _MOST_BATCH_RESULTS)
        chosen = _artists(inputs)
        failed: dict[int, LensmeshError] = {}
        searches: dict[int, router_pb2.SearchRequest] = {}
        for index, one in enumerate(given):
            try:
                image = _image(one, f"images[{index}]")
            except InvalidInput as error:
                failed[index] = error
                continue
            searches[index] = router_pb2.SearchRequest(
                collection=self._context.collection,
                queries=[router_pb2.Query(image=image)],
                filter=chosen,
                limit=limit,
                min_score=threshold,
            )
        results: list[list[dict[str, Any]]] = [[] for _ in given]
        if searches:
            asked = router_pb2.BatchSearchRequest(searches=searches.values())
            answer = await self._mesh.call(self._mesh.router.BatchSearch, asked)
            for index, result in zip(searches, answer.results, strict=True):
                if result.WhichOneof("outcome") == "response":
                    results[index] = [_shown(hit) for hit in result.response.hits]
                    continue
                wrong = from_status(result.error)
                if not is_missing_collection(wrong):
                    failed[index] = wrong
        if len(failed) == len(given) and all(isinstance(each, Unavailable | Overloaded) for each in failed.values()):
            # It is not the images that are wrong.
            raise failed[0]
        return json_answer(
            request,
            {
                "results": results,
                "total_processed": len(given),
                "total_query_time_ms": _ms_since(began),
                "failed_images": sorted(failed),
                "errors": [{"index": index, **ErrorView.of(failed[index]).json()} for index in sorted(failed)],
            },
        )

    async def similar(self, request: Request) -> Response:
        """Find the images that are similar to a stored one."""
        began = time.perf_counter()
        image_id = path_text(request, "image_id")
        inputs = await read_fields(request, self._context.settings) if request.method == "POST" else RequestInputs()
        for name in ("max_results", "similarity_threshold"):
            if name in request.query_params:
                inputs.values.setdefault(name, request.query_params[name])
        asked = router_pb2.SearchRequest(
            collection=self._context.collection,
            queries=[router_pb2.Query(item_id=image_id)],
            limit=inputs.number("max_results", 50, _MOST_RESULTS),
            min_score=_share(inputs, "similarity_threshold"),
        )
        mesh = self._mesh
        found, collection, store = await asyncio.gather(
            mesh.call(mesh.router.Search, asked),
            self._context.find(),
            mesh.call(mesh.search.GetInfo, search_pb2.GetInfoRequest()),
        )
        space = collection.spaces[0].space if collection is not None and collection.spaces else None
        return json_answer(
            request,
            {
                "results": [_shown(hit) for hit in found.hits],
                "total_results": len(found.hits),
                "query_time_ms": _ms_since(began),
                "model_info": {
                    "model_name": space.model if space is not None else "",
                    "embedding_dimension": space.dimension if space is not None else 0,
                    "index_type": store.store,
                    "source_image_id": image_id,
                },
            },
        )

    async def analytics(self, request: Request) -> Response:
        """Tell of one artist's images in figures."""
        return json_answer(request, await self._figures.of(path_text(request, "artist_id")))


def _shown(hit: search_pb2.Hit) -> dict[str, Any]:
    names = names_of(hit.item)
    # Vectors are rounded where they are stored: an image and itself may be a little more than equal.
    score = min(max(hit.score, 0.0), 1.0)
    return {
        "artist_id": names.artist,
        "entry_id": names.entry,
        "view_id": names.view,
        "similarity_score": score,
        "confidence": "High" if score >= _HIGH else "Medium" if score >= _MEDIUM else "Low",
        "embedding_distance": 1.0 - score,
        "metadata": plain_fields(hit.item.metadata),
    }


def _images(inputs: RequestInputs) -> list[Any]:
    images = inputs.values.get("images")
    if not isinstance(images, list) or not images:
        raise InvalidInput(
            Reason.NO_ITEMS, "images has to be a list of addresses, or of base64: there is none", field="images"
        )
    if len(images) > _MOST_IMAGES:
        raise InvalidInput(
            Reason.TOO_MANY_ITEMS,
            f"images has {len(images)} entries and the limit is {_MOST_IMAGES}: send several requests",
            field="images",
            metadata={"limit": _MOST_IMAGES},
        )
    return images


def _image(given: Any, field: str) -> common_pb2.Image:
    """Return one image of a batch: a text, or an object as later releases of the system take it."""
    if isinstance(given, dict):
        given = given.get("image_url") or given.get("image_data")
    if not isinstance(given, str) or not given:
        raise InvalidInput(Reason.IMAGE_MISSING, f"{field} is no text: send an address or base64", field=field)
    return image_of_text(given, field)


def _artists(inputs: RequestInputs) -> search_pb2.Filter | None:
    """Return the filter for the artists that a batch names; None for all."""
    artists = inputs.values.get("artist_filter")
    if not artists:
        return None
    artists = [artists] if isinstance(artists, str) else artists
    if not isinstance(artists, list) or not all(isinstance(each, str) for each in artists):
        raise InvalidInput(
            Reason.OPTION_INVALID, "artist_filter has to be a list of artists' ids", field="artist_filter"
        )
    if len(artists) > _MOST_ARTISTS:
        raise InvalidInput(
            Reason.TOO_MANY_ITEMS,
            f"artist_filter has {len(artists)} entries and the limit is {_MOST_ARTISTS}: name fewer",
            field="artist_filter",
            metadata={"limit": _MOST_ARTISTS},
        )
    chosen = search_pb2.Filter(condition=search_pb2.Condition(field=ARTIST))
    chosen.condition.one_of.extend(artists)
    return chosen


def _share(inputs: RequestInputs, name: str) -> float:
    value = inputs.values.get(name, _THRESHOLD)
    try:
        share = float(value) if not isinstance(value, bool) else -1.0
    except (TypeError, ValueError, OverflowError):
        share = -1.0
    if not 0 <= share <= 1:
        raise InvalidInput(Reason.OPTION_INVALID, f"{name} has to be a number from 0 to 1", field=name)
    return share


def _ms_since(began: float) -> float:
    return round((time.perf_counter() - began) * 1000, 3)
