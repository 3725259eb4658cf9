"""The addresses of vision-encoder, a service of OpenCLIP vectors, and of the router before it."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from http_svc.answers import json_answer
from http_svc.compat.inputs import RequestInputs, image_of_text, read_inputs
from http_svc.compat.models import ServedModels
from http_svc.errors import ErrorView
from http_svc.mesh import Mesh
from http_svc.rest.values import plain_fields
from http_svc.settings import HttpSettings
from lensmesh.common.v1 import common_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh_chassis.errors import InvalidInput, LensmeshError
from lensmesh_chassis.reasons import Reason

EMBED, SEARCH = "vision_encoder", "vision_rag"
_MOST_HITS = 1000


class VisionEncoder:
    """Handlers of `/embed/...`, `/health`, `/info` and `/route`."""

    def __init__(self, settings: HttpSettings, mesh: Mesh, models: ServedModels) -> None:
        self._settings, self._mesh, self._models = settings, mesh, models

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/embed/text", self.embed_text, methods=["POST"]),
            Route("/embed/image", self.embed_image, methods=["POST"]),
            Route("/embed/image/upload", self.embed_image, methods=["POST"]),
            Route("/health", self.health),
            Route("/info", self.info),
            Route("/route", self.route, methods=["POST"]),
        ]

    async def embed_text(self, request: Request) -> Response:
        """Answer with the vector of a text."""
        return json_answer(request, await self._of_text(await read_inputs(request, self._settings)))

    async def embed_image(self, request: Request) -> Response:
        """Answer with the vector of an image, of a file or an address."""
        return json_answer(request, await self._of_image(await read_inputs(request, self._settings)))

    async def health(self, request: Request) -> Response:
        """Tell whether an encoder serves, and on what."""
        try:
            encoder = await self._models.encoder()
        except LensmeshError as error:
            shown = {"status": "unhealthy", "detail": error.message}
            return json_answer(request, shown, 503)
        device = _device(encoder)
        on_gpu = device.id.startswith("cuda")
        return json_answer(
            request,
            {
                "status": "healthy",
                "device": device.id,
                "model": encoder.spaces[0].model,
                "cuda_available": on_gpu,
                "gpu_name": device.name if on_gpu else None,
            },
        )

    async def info(self, request: Request) -> Response:
        """Tell the model and its vectors."""
        encoder = await self._models.encoder()
        space = encoder.spaces[0]
        name, _, pretrained = space.model.partition("/")
        stores = [service.store for service in (await self._models.status()).services if service.store]
        return json_answer(
            request,
            {
                "model_name": name,
                "pretrained": pretrained,
                "device": _device(encoder).id,
                "embedding_dim": space.dimension,
                "normalize_default": space.normalized,
                "qdrant_enabled": any(store.lower().startswith("qdrant") for store in stores),
            },
        )

    async def route(self, request: Request) -> Response:
        """Do what a mode asks for. A failure is an answer as well, as in the system that this one follows."""
        inputs = await read_inputs(request, self._settings)
        mode = inputs.text("mode")
        payload = inputs.values.get("payload", {})
        if not isinstance(payload, dict):
            raise InvalidInput(Reason.OPTION_INVALID, "payload has to be an object", field="payload")
        if mode not in ("vision_embed", "image_search"):
            raise InvalidInput(Reason.OPTION_INVALID, "mode is vision_embed or image_search", field="mode")
        provider = EMBED if mode == "vision_embed" else SEARCH
        try:
            asked = RequestInputs(payload)
            if mode == "image_search":
                data = await self._found(asked, inputs.text("message", ""))
            elif payload.get("operation") == "embed_image":
                data = await self._of_image(asked)
            else:
                data = await self._of_text(asked)
        except LensmeshError as error:
            view = ErrorView.of(error)
            shown = {"ok": False, "provider_id": provider, "error": view.message, "data": None}
            return json_answer(request, shown | {"reason": view.reason}, view.http_status)
        return json_answer(request, {"ok": True, "provider_id": provider, "data": data, "metadata": {"mode": mode}})

    async def _of_text(self, inputs: RequestInputs) -> dict[str, Any]:
        space = await self._space(inputs)
        (vector,) = await self._models.texts([inputs.text("text")], space.id)
        return _embedding(vector, space)

    async def _of_image(self, inputs: RequestInputs) -> dict[str, Any]:
        space = await self._space(inputs)
        (vector,) = await self._models.images([_image(inputs)], space.id)
        return _embedding(vector, space)

    async def _space(self, inputs: RequestInputs) -> common_pb2.VectorSpace:
        space = await self._models.space(inputs.text("model", ""))
        if space.normalized and not inputs.flag("normalize", True):
            raise InvalidInput(
                Reason.OPTION_INVALID,
                "normalize is false, and all vectors here have unit length: leave it out",
                field="normalize",
            )
        return space

    async def _found(self, inputs: RequestInputs, message: str) -> dict[str, Any]:
        query = router_pb2.Query()
        text = inputs.text("text", "") or message
        if inputs.values.get("image_url"):
            query.image.CopyFrom(_image(inputs))
        elif text:
            query.text = text
        else:
            raise InvalidInput(Reason.QUERY_INVALID, "payload has neither text nor image_url", field="payload.text")
        limit = inputs.number("top_k", 5, _MOST_HITS)
        request = router_pb2.SearchRequest(queries=[query], limit=limit, collection=inputs.text("collection", ""))
        answer = await self._mesh.call(self._mesh.router.Search, request)
        images = [
            {
                "id": hit.item.id,
                "score": hit.score,
                "metadata": plain_fields(hit.item.metadata),
                "path": hit.item.image_uri,
                "caption": hit.item.caption.text or None,
            }
            for hit in answer.hits
        ]
        lines = [
            f"{place}. {each['caption'] or each['id']} ({each['score']:.2f})" for place, each in enumerate(images, 1)
        ]
        return {
            "success": True,
            "count": len(images),
            "images": images,
            "formatted_text": "\n".join(lines) if lines else "Nothing was found.",
        }


def _embedding(vector: list[float], space: common_pb2.VectorSpace) -> dict[str, Any]:
    return {
        "embedding": vector,
        "dimension": len(vector),
        "model": space.model,
        "normalized": space.normalized,
        "space_id": space.id,
    }


def _image(inputs: RequestInputs) -> common_pb2.Image:
    """Return the image of a request: its file, or the one at an address. Raises InvalidInput where there is none."""
    content = inputs.files.get("file") or inputs.files.get("image")
    if content:
        return common_pb2.Image(content=content)
    for name in ("image_url", "image_base64", "image"):
        if isinstance(value := inputs.values.get(name), str) and value:
            return image_of_text(value, name)
    raise InvalidInput(
        Reason.IMAGE_MISSING,
        "there is no image: send a part file, or image_url as an address or base64",
        field="image_url",
    )


def _device(encoder: router_pb2.ServiceStatus) -> common_pb2.Device:
    devices = [device for model in encoder.models for device in model.devices]
    return devices[0] if devices else common_pb2.Device(id="cpu")
