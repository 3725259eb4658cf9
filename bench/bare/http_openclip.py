"""open_clip behind an HTTP server, as everyone writes it: python -m bench.bare.http_openclip MODEL.

Each request's image is opened by Pillow, transformed and encoded in the handler, one after another, in float32: what a
photo library meets at the usual service of a few lines.
"""

from __future__ import annotations

import io
import json
import sys
from typing import Any

import open_clip
import torch
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bench.bare.http_echo import serve_http
from bench.worker import serve
from encoder_svc.models.locate import locate
from encoder_svc.models.sources import parse_source


class Predict:
    """A model, and the handler that asks it."""

    def __init__(self, name: str) -> None:
        located = locate(parse_source(name), allow_download=False)
        torch.manual_seed(0)
        made: tuple[Any, Any, Any] = open_clip.create_model_and_transforms(
            located.create_name, pretrained=located.pretrained
        )
        self._model, _, self._preprocess = made
        self._model.eval()

    async def predict(self, request: Request) -> Response:
        """Answer as Immich's machine learning does."""
        async with request.form() as form:
            content = await form["image"].read()  # type: ignore[union-attr]  # a file
        image = Image.open(io.BytesIO(content))
        with torch.no_grad():
            features = self._model.encode_image(self._preprocess(image).unsqueeze(0))
            features /= features.norm(dim=-1, keepdim=True)
        vector = features[0].tolist()
        return JSONResponse({"clip": json.dumps(vector), "imageHeight": image.height, "imageWidth": image.width})


def main() -> None:
    """Serve requests until standard input ends."""
    model = Predict(sys.argv[1])
    address = serve_http(Starlette(routes=[Route("/predict", model.predict, methods=["POST"])]))
    serve({"address": lambda asked: address})


if __name__ == "__main__":
    main()
