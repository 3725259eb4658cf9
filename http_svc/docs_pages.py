"""/v1/openapi.json, and /docs: Swagger UI from the files of a package, under a policy that lets nothing else run."""

import asyncio
import importlib.util
import mimetypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from http_svc.answers import JSON, with_etag
from http_svc.json_bodies import dump

# The package is never imported: it would bring a framework along.
_PACKAGE = "flask_swagger_ui"
_FILES = frozenset({"swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png"})
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {"content-security-policy": _POLICY}
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>lensmesh: HTTP interface</title>
<link rel="icon" href="docs/favicon-32x32.png">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<noscript>The same document for programs: <a href="v1/openapi.json">v1/openapi.json</a></noscript>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
_START = """"use strict";
SwaggerUIBundle({
  url: new URL("v1/openapi.json", document.baseURI).href,
  dom_id: "#swagger-ui",
  deepLinking: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  validatorUrl: null,
});
"""


def docs_routes(document: Callable[[], dict[str, Any]]) -> list[BaseRoute]:
    """Return the routes. The document is made when it is first asked for."""
    made: list[bytes] = []

    async def openapi(request: Request) -> Response:
        if not made:
            made.append(dump(document()))
        return with_etag(made[0], JSON, request.headers.get("if-none-match", ""))

    async def page(request: Request) -> Response:
        return _file(request, _PAGE.encode(), "text/html; charset=utf-8")

    async def start(request: Request) -> Response:
        return _file(request, _START.encode(), "text/javascript; charset=utf-8")

    async def file(request: Request) -> Response:
        name = request.path_params["name"]
        folder = _folder()
        if name not in _FILES or folder is None:
            raise HTTPException(404)
        content = await asyncio.to_thread((folder / name).read_bytes)
        return _file(request, content, mimetypes.guess_type(name)[0] or "application/octet-stream")

    return [
        Route("/v1/openapi.json", openapi),
        Route("/docs", page),
        Route("/docs/start.js", start),
        Route("/docs/{name}", file),
    ]


def _folder() -> Path | None:
    found = importlib.util.find_spec(_PACKAGE)
    places = list(found.submodule_search_locations or ()) if found is not None else []
    return Path(places[0]) / "dist" if places else None


def _file(request: Request, content: bytes, media_type: str) -> Response:
    answer = with_etag(content, media_type, request.headers.get("if-none-match", ""))
    answer.headers.update(_HEADERS)
    return answer
