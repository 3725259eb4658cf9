"""The page for people: files that were built from `web/`, held in memory and served as they are."""

import mimetypes
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from http_svc.answers import with_etag
from lensmesh_chassis.errors import NotFound
from lensmesh_chassis.reasons import Reason

STATIC = Path(__file__).parent / "static"
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        # blob: an image that somebody searches by, shown before it is sent.
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
# The name of an asset changes with its content.
_FOREVER = "public, max-age=31536000, immutable"


def page_routes(static: Path = STATIC) -> list[Route]:
    """Return the routes of the page: `/` and `/assets/NAME`. All files are read now; no path of a request is opened.

    Raises:
        OSError: The files are not there.
    """
    index = (static / "index.html").read_bytes()
    assets = {path.name: (path.read_bytes(), _media_type(path)) for path in (static / "assets").iterdir()}

    async def page(request: Request) -> Response:
        return _guarded(with_etag(index, "text/html; charset=utf-8", request.headers.get("if-none-match", "")))

    async def asset(request: Request) -> Response:
        found = assets.get(request.path_params["name"])
        if found is None:
            raise NotFound(Reason.UNKNOWN, "no such file belongs to the page: load the page anew")
        body, media_type = found
        return _guarded(with_etag(body, media_type, request.headers.get("if-none-match", ""), _FOREVER))

    return [Route("/", page), Route("/assets/{name}", asset)]


def _guarded(response: Response) -> Response:
    response.headers["content-security-policy"] = CONTENT_SECURITY_POLICY
    return response


def _media_type(path: Path) -> str:
    # What a machine's own table says of scripts differs from one to the next.
    known = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
    return known.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
