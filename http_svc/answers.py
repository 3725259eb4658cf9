"""Answers that a client may keep: JSON and bytes with an ETag."""

import hashlib
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from http_svc.json_bodies import dump

JSON = "application/json"


def with_etag(body: bytes, media_type: str, if_none_match: str, cache: str = "no-cache") -> Response:
    """Return an answer to a GET; 304 without a body where the client has this very one."""
    etag = f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
    headers = {"etag": etag, "cache-control": cache}
    known = [each.strip().removeprefix("W/") for each in if_none_match.split(",")]
    if etag in known or "*" in known:
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type=media_type)


def json_answer(request: Request, value: Any, status: int = 200) -> Response:
    """Return a value as JSON, with an ETag where it answers a GET."""
    body = dump(value)
    if request.method in ("GET", "HEAD") and status == 200:
        return with_etag(body, JSON, request.headers.get("if-none-match", ""))
    return Response(body, status, media_type=JSON)
