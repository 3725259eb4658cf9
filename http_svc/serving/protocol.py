"""Connections of the HTTP server: how many there may be, and how long each may take to say what it wants."""

import asyncio
import functools
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

from http_svc.errors import ErrorView
from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason

HEAD_BYTES = 64 * 1024
"""Bytes of a request's head, and of what stands between and after the pieces of its body."""
# What a header takes beside its bytes, as HTTP/2 counts it (RFC 9113, 6.5.2).
_HEADER_OVERHEAD_BYTES = 32


class OpenConnections:
    """The open connections, those that are idle in the order in which they became so."""

    def __init__(self, most: int, age_s: float) -> None:
        self._most = most
        self.age_s = age_s
        self._idle: OrderedDict[BoundedProtocol, None] = OrderedDict()
        self._open: set[BoundedProtocol] = set()
        self.on_closed_for_room: Callable[[], None] = lambda: None
        """Called for each connection that is closed for want of room."""

    @property
    def count(self) -> int:
        """OpenConnections that are open now."""
        return len(self._open)

    def add(self, one: "BoundedProtocol") -> bool:
        """Take one in, if need be for the one that has been idle for longest. False where there is no room."""
        if len(self._open) >= self._most:
            self.on_closed_for_room()
            if not self._idle:
                return False
            oldest, _ = self._idle.popitem(last=False)
            self._open.discard(oldest)
            oldest.transport.abort()
        self._open.add(one)
        self._idle[one] = None
        return True

    def busy(self, one: "BoundedProtocol") -> None:
        """Note that a request has begun to arrive."""
        self._idle.pop(one, None)

    def idle(self, one: "BoundedProtocol") -> None:
        """Note that nothing is under way any more."""
        if one in self._open:
            self._idle[one] = None

    def remove(self, one: "BoundedProtocol") -> None:
        """Forget one that is closed."""
        self._open.discard(one)
        self._idle.pop(one, None)


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with bounds that it does not have: of connections, of their age, of a head's time."""

    def __init__(
        self,
        connections: OpenConnections,
        header_s: float,
        may_connect: Callable[[asyncio.BaseTransport], bool],
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._bounded, self._header_s, self._may_connect = connections, header_s, may_connect
        self._head_timer: asyncio.TimerHandle | None = None
        self._opened = time.monotonic()
        self._head_bytes, self._unread_bytes = 0, 0
        self._running_cycle: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        if not self._may_connect(transport) or not self._bounded.add(self):
            transport.abort()
            return
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._bounded.remove(self)
        self._head_is_here()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unread_bytes += len(data)
        super().data_received(data)
        if self._unread_bytes > HEAD_BYTES and not self.transport.is_closing() and self.parser is not None:
            # A line that does not end: the parser keeps it, and copies it each time.
            self.send_400_response("")

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_head(len(name) + len(value) + _HEADER_OVERHEAD_BYTES)
        super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        self._unread_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unread_bytes = 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no request, or one with too large a head, and close."""
        running = self._running_cycle
        answering = running is not None and not running.response_complete
        if answering and (running is not self.cycle or running.response_started or not running.more_body):
            # This would stand in the middle of that answer, or in its place.
            self.transport.abort()
            return
        too_large = self._head_bytes > HEAD_BYTES or self._unread_bytes > HEAD_BYTES
        body = ErrorView.of(_head_too_large() if too_large else _no_request()).body()
        status = b"431 Request Header Fields Too Large" if too_large else b"400 Bad Request"
        self.transport.write(
            b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
            % (status, len(body), body)
        )
        self.transport.close()

    def on_message_begin(self) -> None:
        self._bounded.busy(self)
        self._head_bytes = 0
        if self._head_timer is None:
            self._await_head()
        super().on_message_begin()
        self.scope["state"]["abort"] = self.transport.abort

    def on_headers_complete(self) -> None:
        self._head_is_here()
        self._unread_bytes = 0
        if self._bounded.age_s and time.monotonic() - self._opened > self._bounded.age_s:
            # The client connects anew, asks the name service again and finds replicas that were added.
            self.headers.append((b"connection", b"close"))
            super().on_headers_complete()
            self.cycle.keep_alive = False
            return
        super().on_headers_complete()

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over. It still counts, until the protocol that takes it tells that it is lost."""
        self.app_state = self.app_state | {
            "abort": self.transport.abort,
            "lost": functools.partial(self._bounded.remove, self),
        }
        super().handle_websocket_upgrade()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.pipeline:
            self._bounded.idle(self)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running_cycle = cycle
        super()._start_asgi_task(cycle, app)

    def _count_head(self, size: int) -> None:
        """Count what is kept of a head, or of trailers. Raises ValueError, which the parser tells as its own error."""
        self._head_bytes += size
        if self._head_bytes > HEAD_BYTES:
            raise ValueError("the head is too large")

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(self._header_s, self._head_is_late)

    def _head_is_here(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self.transport.abort()


class BoundedSocket(WebSocketsSansIOProtocol):
    """uvicorn's protocol of a WebSocket: one that takes nothing and answers no ping does not stay."""

    def connection_lost(self, exc: Exception | None) -> None:
        self.app_state["lost"]()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            # uvicorn leaves a handshake that cannot be read open for ever.
            body = ErrorView.of(_no_request()).body()
            self.transport.write(
                b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
                b"connection: close\r\n\r\n%b" % (len(body), body)
            )
            self.transport.close()

    def handle_ping(self) -> None:
        if not self.writable.is_set():
            # Its answers would pile up.
            self.transport.abort()
            return
        super().handle_ping()

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        if self.transport.get_write_buffer_size():
            # A graceful end would wait for a client that takes nothing.
            self.transport.abort()


def _no_request() -> InvalidInput:
    return InvalidInput(
        Reason.MESSAGE_MALFORMED,
        "this is no request of HTTP/1.1: send a method that HTTP knows, headers of one line each, and one length",
    )


def _head_too_large() -> InvalidInput:
    return InvalidInput(
        Reason.MESSAGE_TOO_LARGE,
        f"the head of the request has more than {HEAD_BYTES} bytes, {_HEADER_OVERHEAD_BYTES} more for each header: "
        "send shorter and fewer headers, and what is long in a body",
        metadata={"limit": HEAD_BYTES},
    )
