"""The addresses of Image AI Feature Router: images in with a caption, and a search by text."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from http_svc.answers import json_answer
from http_svc.compat.inputs import image_of_text, read_inputs
from http_svc.mesh import Mesh
from http_svc.rest.asked import path_text
from http_svc.rest.known import MeshKnowledge
from http_svc.rest.operations import RawPathRoute
from http_svc.rest.values import plain_fields
from http_svc.settings import HttpSettings
from lensmesh.common.v1 import common_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InvalidInput, NotFound
from lensmesh_chassis.reasons import Reason

# Where captions and vectors are made: no other provider stands beside the mesh's own models.
_ORIGIN = "local"
_MOST_HITS = 1000


class FeatureRouter:
    """Handlers of `/images` and `/search`, in the mesh's default collection."""

    def __init__(self, settings: HttpSettings, mesh: Mesh, known: MeshKnowledge) -> None:
        self._settings, self._mesh, self._known = settings, mesh, known

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/images", self.ingest, methods=["POST"]),
            RawPathRoute("/images/{id}", self.image, ["GET"]),
            Route("/search", self.search),
        ]

    async def ingest(self, request: Request) -> Response:
        """Make an image findable, of a file or an address."""
        inputs = await read_inputs(request, self._settings)
        if content := inputs.files.get("file"):
            image = common_pb2.Image(content=content)
        elif url := inputs.values.get("url"):
            image = image_of_text(url if isinstance(url, str) else "", "url")
        else:
            raise InvalidInput(
                Reason.IMAGE_MISSING, "there is no image: send a part file, or JSON with url", field="file"
            )
        asked = router_pb2.IngestRequest(item=router_pb2.IngestItem(image=image))
        item = (await self._mesh.call(self._mesh.router.Ingest, asked)).item
        return json_answer(
            request,
            {
                "id": item.id,
                "caption": item.caption.text or None,
                "origin": _ORIGIN,
                "confidence": item.caption.confidence,
                "embedding_origin": _ORIGIN,
            },
        )

    async def image(self, request: Request) -> Response:
        """Answer with what is stored of an image."""
        wanted = path_text(request, "id")
        asked = search_pb2.GetItemsRequest(collection=await self._known.collection(""), ids=[wanted])
        answer = await self._mesh.call(self._mesh.search.GetItems, asked)
        if not answer.items:
            raise NotFound(Reason.ITEM_NOT_FOUND, f"there is no image {wanted[:200]!r}", metadata={"id": wanted[:200]})
        item = answer.items[0]
        return json_answer(
            request,
            {
                "id": item.id,
                "caption": item.caption.text or None,
                "confidence": item.caption.confidence,
                "origin": _ORIGIN,
                "payload": plain_fields(item.metadata) | {"src": {"url": item.image_uri}},
            },
        )

    async def search(self, request: Request) -> Response:
        """Find images by a text."""
        asked = request.query_params
        text = asked.get("q", "")
        if not text:
            raise InvalidInput(Reason.TEXT_EMPTY, "q is empty: /search?q=a+beach", field="q")
        limit = asked.get("limit", asked.get("k", "10"))
        if not limit.isascii() or not limit.isdigit() or not 1 <= int(limit) <= _MOST_HITS:
            raise InvalidInput(
                Reason.LIMIT_OUT_OF_RANGE, f"limit has to be a number from 1 to {_MOST_HITS}", field="limit"
            )
        search = router_pb2.SearchRequest(queries=[router_pb2.Query(text=text)], limit=int(limit))
        answer = await self._mesh.call(self._mesh.router.Search, search)
        results = [
            {"id": hit.item.id, "caption": hit.item.caption.text or None, "score": hit.score} for hit in answer.hits
        ]
        return json_answer(request, {"query": text, "results": results})
