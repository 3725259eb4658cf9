"""`POST /v1/embeddings` as OpenAI has it, with images as infinity and vLLM take them."""

import base64
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from http_svc.answers import json_answer
from http_svc.compat.inputs import RequestInputs, image_of_text, read_inputs
from http_svc.compat.models import ServedModels
from http_svc.settings import HttpSettings
from lensmesh.common.v1 import common_pb2
from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason

One = str | common_pb2.Image
_MODALITIES = ("text", "image")


def openai_routes(settings: HttpSettings, models: ServedModels) -> list[Route]:
    """Return the route `/v1/embeddings`."""

    async def embeddings(request: Request) -> Response:
        inputs = await read_inputs(request, settings)
        space = await models.space(inputs.text("model", ""))
        dimensions = inputs.values.get("dimensions")
        if dimensions not in (None, space.dimension):
            raise InvalidInput(
                Reason.OPTION_INVALID,
                f"dimensions is {dimensions!r} and vectors here have {space.dimension}: leave it out",
                field="dimensions",
            )
        written = inputs.text("encoding_format", "float")
        if written not in ("float", "base64"):
            raise InvalidInput(Reason.OPTION_INVALID, "encoding_format is float or base64", field="encoding_format")
        vectors = await _vectors(models, _asked(inputs), space.id)
        words = sum(len(one.split()) for one in _asked(inputs) if isinstance(one, str))
        return json_answer(
            request,
            {
                "object": "list",
                "data": [
                    {"object": "embedding", "index": index, "embedding": _shown(vector, written)}
                    for index, vector in enumerate(vectors)
                ],
                "model": space.model,
                # Tokens are the encoder's own affair: words stand in for them.
                "usage": {"prompt_tokens": words, "total_tokens": words},
            },
        )

    return [Route("/v1/embeddings", embeddings, methods=["POST"])]


async def _vectors(models: ServedModels, asked: list[One], space: str) -> list[list[float]]:
    texts = [one for one in asked if isinstance(one, str)]
    images = [one for one in asked if not isinstance(one, str)]
    of_texts = iter(await models.texts(texts, space) if texts else [])
    of_images = iter(await models.images(images, space) if images else [])
    return [next(of_texts) if isinstance(one, str) else next(of_images) for one in asked]


def _asked(inputs: RequestInputs) -> list[One]:
    """Return what is to be embedded, in order. Raises InvalidInput naming the entry that is none of the known forms."""
    if "messages" in inputs.values:
        return _of_messages(inputs.values["messages"])
    given = inputs.values.get("input")
    entries = given if isinstance(given, list) else [given]
    if not entries:
        raise InvalidInput(Reason.NO_ITEMS, "input is empty: send a text, or a list of texts and images", field="input")
    modality = inputs.text("modality", "text")
    if modality not in _MODALITIES:
        raise InvalidInput(Reason.OPTION_INVALID, "modality is text or image", field="modality")
    return [_one(entry, f"input[{index}]", modality) for index, entry in enumerate(entries)]


def _one(entry: Any, name: str, modality: str) -> One:
    if isinstance(entry, str):
        # infinity says by `modality` what all are; a data URI is an image whatever it says.
        return image_of_text(entry, name) if modality == "image" or entry.startswith("data:image/") else entry
    if isinstance(entry, dict):
        if isinstance(entry.get("text"), str):
            return str(entry["text"])
        address = entry.get("image", entry.get("image_url"))
        if isinstance(address, dict):
            address = address.get("url")
        if isinstance(address, str):
            return image_of_text(address, name)
    raise InvalidInput(
        Reason.OPTION_INVALID,
        f'{name} is no text, and no object such as {{"image": "data:image/png;base64,..."}}',
        field=name,
    )


def _of_messages(messages: Any) -> list[One]:
    """Return the one thing that a chat, as vLLM takes it, holds: an image, or a text."""
    parts: list[Any] = []
    for message in messages if isinstance(messages, list) else []:
        content = message.get("content") if isinstance(message, dict) else None
        parts += content if isinstance(content, list) else [content]
    found = [_one(part, f"messages[...].content[{index}]", "text") for index, part in enumerate(parts)]
    images = [one for one in found if not isinstance(one, str)]
    if len(images) > 1 or not found:
        raise InvalidInput(
            Reason.OPTION_INVALID,
            "messages have to hold one image, or one text: a vector is of one thing",
            field="messages",
        )
    # Beside an image a text is the model's instruction, and CLIP knows none.
    return [*images] or [" ".join(one for one in found if isinstance(one, str))]


def _shown(vector: list[float], written: str) -> list[float] | str:
    if written == "float":
        return vector
    return base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode()
