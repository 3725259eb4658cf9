"""One request, from its head to the end of its answer: its id, its span, its bounds, and an answer whatever happens."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from starlette.types import Message, Receive, Scope, Send

from http_svc.errors import allowed_methods, view_of
from http_svc.serving.body import Body
from http_svc.serving.metrics import OTHER
from http_svc.serving.spans import RequestSpan
from lensmesh_chassis.contract import REQUEST_ID_KEY, TRACE_ID_KEY
from lensmesh_chassis.errors import DEFAULT_RETRY_AFTER_S, Unavailable
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.request_id import accepted_request_id, request_id
from lensmesh_chassis.rpc.request_id import method as current_method

if TYPE_CHECKING:
    from http_svc.serving.calls import Calls

_log = logging.getLogger(__name__)

PROBES = frozenset({"/livez", "/readyz"})
"""Answered whatever the process does: who asks decides whether it lives."""
CLIENT_LEFT = 499
# A request that takes longer than this is looked at for whether its client is still there, in seconds.
_WATCH_AFTER_S = 0.05
# Bytes that are written at a time.
_WRITE_BYTES = 256 * 1024
_BASE_HEADERS = [(b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer")]
_SHOWN_HEADERS = b"retry-after, x-request-id, lensmesh-trace-id, etag"


class ServedRequest:
    """A request that is answered. `calls` has what it shares with all others."""

    def __init__(self, calls: Calls, scope: Scope, receive: Receive, send: Send, headers: dict[bytes, bytes]) -> None:
        self._calls, self._scope, self._receive, self._send = calls, scope, receive, send
        self._headers = headers
        self._is_socket = scope["type"] == "websocket"
        self._method = "WEBSOCKET" if self._is_socket else scope["method"]
        self._status, self._sent, self._finished = 0, 0, False
        self._id = accepted_request_id(headers.get(REQUEST_ID_KEY.encode()))
        self._span: RequestSpan | None = None
        self._body: Body | None = None
        self._watch: asyncio.TimerHandle | asyncio.Task[None] | None = None
        self._task: asyncio.Task[Any] | None = None
        self._left = False

    async def run(self, task: asyncio.Task[Any], room: Any) -> None:
        start = time.perf_counter()
        path: str = self._scope["path"]
        self._task = task
        # Each request has a task, and so a context, of its own: there is nothing to reset.
        request_id.set(self._id)
        current_method.set(path)
        is_probe = path in PROBES
        entered = False
        try:
            if not is_probe:
                self._span = self._calls.spans.begin(self._scope, self._method, self._text)
                self._calls.origins.check(self._text, self._method)
                if self._is_preflight():
                    await self._answer(204, self._preflight_headers(), b"")
                    return
                self._calls.admit((self._scope.get("client") or ("",))[0])
                self._calls.in_flight.enter()
                self._calls.metrics.in_flight.inc()
                entered = True
            assert self._calls.app is not None
            if self._is_socket:
                await self._calls.app(self._scope, self._receive, self._socket_send)
                return
            self._body = Body(self._receive, self._calls.settings, room, self._declared(), self._has_no_body())
            self._scope["body"] = self._body
            loop = asyncio.get_running_loop()
            self._watch = loop.call_later(_WATCH_AFTER_S, self._begin_watch)
            await self._calls.app(self._scope, self._body.receive, self._http_send)
        except asyncio.CancelledError:
            if self._left:
                task.uncancel()
            elif self._calls.draining:
                task.uncancel()
                await self._refuse(later(Reason.DRAINING, "the service ended before the answer: send it again"))
            else:
                raise
        except BaseException as error:
            await self._refuse(error)
            if not isinstance(error, Exception):
                raise
        finally:
            if self._watch is not None:
                self._watch.cancel()
            if entered:
                self._calls.in_flight.leave()
                self._calls.metrics.in_flight.dec()
            status = self._status or CLIENT_LEFT
            route = _route(self._scope)
            seconds = time.perf_counter() - start
            if not is_probe:
                received = self._body.received if self._body is not None else 0
                self._calls.metrics.ended(route, self._method, status, seconds, received, self._sent)
                if self._span is not None:
                    self._span.end(route, status)
                self._log(status, seconds)

    # --- the head

    def _text(self, name: bytes) -> str:
        return self._headers.get(name, b"").decode("latin-1")

    def _declared(self) -> int | None:
        length = self._text(b"content-length")
        return int(length) if length.isascii() and length.isdigit() else None

    def _has_no_body(self) -> bool:
        return b"transfer-encoding" not in self._headers and not self._declared()

    def _is_preflight(self) -> bool:
        return self._method == "OPTIONS" and b"access-control-request-method" in self._headers

    def _preflight_headers(self) -> list[tuple[bytes, bytes]]:
        return [
            (b"access-control-allow-methods", b"GET, HEAD, POST, PUT, PATCH, DELETE"),
            (b"access-control-allow-headers", self._headers.get(b"access-control-request-headers", b"content-type")),
            (b"access-control-max-age", b"600"),
        ]

    # --- the client that leaves

    def _begin_watch(self) -> None:
        loop = asyncio.get_running_loop()
        assert self._body is not None
        if self._body.complete:
            self._watch = loop.create_task(self._until_left())
        else:
            # Whoever reads the body learns first that there will be no more of it.
            self._watch = loop.call_later(_WATCH_AFTER_S, self._begin_watch)

    async def _until_left(self) -> None:
        """Cancel the request once its client has left."""
        assert self._body is not None
        while not self._body.left.is_set():
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._body.left.set()
        if not self._finished and self._task is not None:
            self._left = True
            self._task.cancel()

    # --- the answer

    async def _http_send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            message["headers"] = [*message.get("headers", ()), *self._common_headers()]
        else:
            body = message.get("body", b"")
            self._sent += len(body)
            self._finished = not message.get("more_body", False)
            if len(body) > _WRITE_BYTES:
                await self._in_pieces(body, message)
                return
        await self._timed(message)

    async def _in_pieces(self, body: bytes, message: Message) -> None:
        """Send a large body piece by piece: what is written at once lies in memory until the client has taken it."""
        view = memoryview(body)
        for start in range(0, len(view), _WRITE_BYTES):
            piece = bytes(view[start : start + _WRITE_BYTES])
            more = message.get("more_body", False) or start + _WRITE_BYTES < len(view)
            await self._timed({"type": "http.response.body", "body": piece, "more_body": more})

    async def _socket_send(self, message: Message) -> None:
        if message["type"] == "websocket.accept":
            self._status = 101
        await self._timed(message)

    async def _timed(self, message: Message) -> None:
        """Send, for as long as the client takes something."""
        async with asyncio.timeout(self._calls.settings.body_seconds):
            await self._send(message)

    def _common_headers(self) -> list[tuple[bytes, bytes]]:
        common = [*_BASE_HEADERS, (REQUEST_ID_KEY.encode(), self._id.encode())]
        if self._span is not None and self._span.trace_id:
            common.append((TRACE_ID_KEY.encode(), self._span.trace_id.encode()))
        if self._calls.draining:
            common.append((b"connection", b"close"))
        if self._calls.origins.allowed:
            common.append((b"vary", b"origin"))
            origin = self._text(b"origin")
            if origin and self._calls.origins.allows(origin):
                common += [
                    (b"access-control-allow-origin", origin.encode("latin-1")),
                    (b"access-control-expose-headers", _SHOWN_HEADERS),
                ]
        return common

    async def _answer(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        headers = [*headers, (b"content-length", str(len(body)).encode())] if status != 204 else headers
        await self._http_send({"type": "http.response.start", "status": status, "headers": headers})
        await self._http_send({"type": "http.response.body", "body": body})

    async def _refuse(self, error: BaseException) -> None:
        """Answer with an error, where the answer has not begun; else end the connection, which says that it is cut."""
        if self._finished or self._left or (self._body is not None and self._body.left.is_set()):
            return
        if self._status and not self._is_socket:
            if not isinstance(error, TimeoutError):
                _log.warning("an answer broke", extra={"why": view_of(error).message, "path": self._scope["path"]})
            await self._cut()
            return
        view = view_of(error)
        if self._is_socket:
            if not self._status:
                self._status = view.http_status
                headers = [(b"content-type", b"application/json"), *view.headers]
                await self._send(
                    {"type": "websocket.http.response.start", "status": view.http_status, "headers": headers}
                )
                await self._send({"type": "websocket.http.response.body", "body": view.body()})
            return
        headers = [(b"content-type", b"application/json"), *view.headers, *allowed_methods(error)]
        body = view.body()
        unfinished = self._body is not None and not self._body.complete
        if not unfinished:
            await self._answer(view.http_status, headers, body)
            return
        # The client may still be writing: it is listened to for a moment, or it would never read the answer.
        headers += [(b"connection", b"close"), (b"content-length", str(len(body)).encode())]
        await self._http_send({"type": "http.response.start", "status": view.http_status, "headers": headers})
        await self._http_send({"type": "http.response.body", "body": body, "more_body": True})
        assert self._body is not None
        await self._body.discard()
        await self._http_send({"type": "http.response.body", "body": b""})

    async def _cut(self) -> None:
        """End the connection at once: a graceful end would wait for a client that takes nothing."""
        self._scope["state"]["abort"]()
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def _log(self, status: int, seconds: float) -> None:
        level = logging.DEBUG if status < 400 else logging.INFO
        if not _log.isEnabledFor(level):
            return
        client = self._scope.get("client")
        _log.log(
            level,
            "request",
            extra={
                "http_method": self._method,
                "path": self._scope["path"],
                "status": status,
                "ms": round(seconds * 1000, 3),
                "peer": f"{client[0]}:{client[1]}" if client else "",
            },
        )


def _route(scope: Scope) -> str:
    route: Any = scope.get("route")
    return getattr(route, "path", "") or scope.get("rpc", "") or OTHER


def later(reason: Reason, message: str) -> Unavailable:
    """Build the error for what another replica, or this one in a moment, can answer."""
    return Unavailable(reason, message, retry_after_s=DEFAULT_RETRY_AFTER_S)
