"""The protocol of Immich's machine learning: a photo library that speaks it can be pointed here.

After the requests that Immich's server sends, and the answers of its own service (immich-app/immich,
machine-learning/immich_ml/main.py): one image or one text a request, models by their name.
"""

import io
import json
from typing import Any

from PIL import Image as PillowImage
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from http_svc.answers import json_answer
from http_svc.compat.inputs import read_inputs
from http_svc.compat.models import ServedModels
from http_svc.json_bodies import parse_json
from http_svc.settings import HttpSettings
from lensmesh.common.v1 import common_pb2
from lensmesh_chassis.errors import InvalidInput, NotBuilt
from lensmesh_chassis.reasons import Reason

_CLIP, _VISUAL, _TEXTUAL = "clip", "visual", "textual"
# Those that every encoder of a mesh reads; others are not opened.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
_MOST_ENTRIES = 1000


def immich_routes(settings: HttpSettings, models: ServedModels) -> list[Route]:
    """Return the routes `/ping` and `/predict`."""

    async def ping(_request: Request) -> Response:
        return PlainTextResponse("pong")

    async def predict(request: Request) -> Response:
        inputs = await read_inputs(request, settings)
        model, of_image = _entry(inputs.values.get("entries", ""))
        space = (await models.space(model)).id
        if of_image:
            content = inputs.files.get("image", b"")
            if not content:
                raise InvalidInput(Reason.IMAGE_MISSING, "the part image is missing", field="image")
            (vector,) = await models.images([common_pb2.Image(content=content)], space)
            width, height = _size(content)
            return json_answer(request, {_CLIP: _written(vector), "imageHeight": height, "imageWidth": width})
        (vector,) = await models.texts([inputs.text("text")], space)
        return json_answer(request, {_CLIP: _written(vector)})

    return [Route("/ping", ping), Route("/predict", predict, methods=["POST"])]


def _entry(text: Any) -> tuple[str, bool]:
    """Return the model that `entries` asks for, and whether of an image.

    Raises:
        InvalidInput: It is no such object.
        NotBuilt: It asks for faces or for reading text, which a mesh does not do. Immich then asks its next server.
    """
    if not isinstance(text, str) or not text:
        raise InvalidInput(Reason.OPTION_INVALID, "the part entries is missing", field="entries")
    entries = parse_json(text.encode(), _MOST_ENTRIES)
    if not isinstance(entries, dict) or not entries:
        raise _wrong()
    if others := sorted(set(entries) - {_CLIP}):
        raise NotBuilt(
            Reason.NOT_IMPLEMENTED,
            f"the task {others[0][:60]!r} is not done here, only clip: name a server of Immich's own after this one",
            metadata={"field": "entries"},
        )
    kinds = entries[_CLIP]
    if not isinstance(kinds, dict) or len(kinds) != 1 or not set(kinds) <= {_VISUAL, _TEXTUAL}:
        raise _wrong()
    kind, wanted = next(iter(kinds.items()))
    if not isinstance(wanted, dict) or not isinstance(wanted.get("modelName"), str):
        raise _wrong()
    return wanted["modelName"], kind == _VISUAL


def _wrong() -> InvalidInput:
    return InvalidInput(
        Reason.OPTION_INVALID,
        'entries has to be as {"clip": {"visual": {"modelName": "ViT-B-32__openai"}}}, or textual in place of visual',
        field="entries",
    )


def _written(vector: list[float]) -> str:
    """Return a vector as Immich's server takes it: a text that PostgreSQL reads."""
    return json.dumps(vector, separators=(",", ":"))


def _size(content: bytes) -> tuple[int, int]:
    """Return width and height in pixels. The header alone is read, of an image that the encoder took."""
    with PillowImage.open(io.BytesIO(content), formats=_FORMATS) as image:
        return image.size
