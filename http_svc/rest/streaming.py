"""Answers that are sent while the body of the request still comes: lines of JSON, or server-sent events."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from http_svc.errors import ErrorView
from http_svc.json_bodies import dump
from http_svc.rest.operations import SSE
from lensmesh_chassis.errors import LensmeshError, Unavailable
from lensmesh_chassis.reasons import Reason


class StreamedAnswer(Response):
    """An answer that comes piece by piece. Unlike Starlette's, it leaves the body of the request to who makes it."""

    def __init__(self, pieces: AsyncIterator[bytes], media_type: str) -> None:
        # A proxy such as NGINX would keep the first pieces back.
        super().__init__(headers={"cache-control": "no-cache", "x-accel-buffering": "no"}, media_type=media_type)
        del self.headers["content-length"]
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send all pieces; what makes them is ended in any case, and a stream that is cut off says so."""
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            async for piece in self._pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        except asyncio.CancelledError:
            # By the service that ends, or for a client that left, which takes nothing of this.
            await send({"type": "http.response.body", "body": self._cut_off()})
            raise
        finally:
            close: Any = getattr(self._pieces, "aclose", None)
            if close is not None:
                await close()

    def _cut_off(self) -> bytes:
        error = Unavailable(Reason.DRAINING, "the service ended before all was answered: send what has no answer again")
        if self.media_type == SSE:
            return failed_event(error)
        return dump({"error": ErrorView.of(error).json()}) + b"\n"


def event(data: bytes, kind: str = "") -> bytes:
    """Return a server-sent event."""
    return (f"event: {kind}\n".encode() if kind else b"") + b"data: " + data + b"\n\n"


def failed_event(error: LensmeshError) -> bytes:
    """Return the event that says why a stream broke."""
    return event(dump({"error": ErrorView.of(error).json()}), "error")
