"""The body of a request: bounded in bytes, in time and in what all of them hold together."""

import asyncio
import time
from typing import Any

from starlette.types import Receive

from http_svc.settings import HttpSettings
from lensmesh_chassis.concurrency import Budget, Share
from lensmesh_chassis.errors import Cancelled, DeadlineExceeded, Overloaded
from lensmesh_chassis.reasons import Reason

# How long a request waits for room until it is refused, as in the services that speak gRPC.
_ROOM_SECONDS = 5.0
# How much of a refused body is taken in, so that its client reads the refusal and is not cut off while it writes.
_DISCARD_BYTES = 8 * 1024 * 1024
_DISCARD_SECONDS = 2.0
_NOTHING = {"type": "http.request", "body": b"", "more_body": False}


class Body:
    """What comes of a request's body. `limit` is its greatest size, 0 for none; a handler of streams sets that."""

    def __init__(self, receive: Receive, settings: HttpSettings, room: Share, size: int | None, empty: bool) -> None:
        self._receive, self._settings, self._room = receive, settings, room
        self._declared = size
        self._waited_s = 0.0
        self._begun = False
        self.received = 0
        self.limit = settings.body_bytes
        self.complete = empty
        """True once all of it is here."""
        self.left = asyncio.Event()
        """Set once the client has left."""
        self._told_end = False

    async def receive(self) -> Any:
        """Return the next message of the body, for an ASGI application.

        Raises:
            Overloaded: MESSAGE_TOO_LARGE, with the limit.
            DeadlineExceeded: The client is silent, or too slow.
        """
        if self.complete:
            if self._told_end:
                await self.left.wait()
                return {"type": "http.disconnect"}
            self._told_end = True
            return _NOTHING
        if not self._begun:
            self._begun = True
            if self.limit and self._declared is not None and self._declared > self.limit:
                raise self._too_large()
        asked = time.monotonic()
        try:
            async with asyncio.timeout(self._settings.body_seconds):
                message = await self._receive()
        except TimeoutError:
            raise DeadlineExceeded(
                Reason.DEADLINE_EXCEEDED,
                f"nothing more of the body came for {self._settings.body_seconds:g} s: send it again, faster",
            ) from None
        if message["type"] == "http.disconnect":
            self.complete = self._told_end = True
            self.left.set()
            return message
        self.received += len(message.get("body", b""))
        if self.limit and self.received > self.limit:
            raise self._too_large()
        if message.get("more_body", False):
            # The time in which a handler held the client back is not the client's.
            self._waited_s += time.monotonic() - asked
            self._check_rate()
        else:
            self.complete = self._told_end = True
        return message

    async def read(self) -> bytes:
        """Return all of the body, once there is room for it.

        Raises as `receive` does; Overloaded (OVERLOADED) where others hold all room; Cancelled where the client leaves.
        """
        chunks: list[bytes] = []
        if self._declared:
            await self._take(min(self._declared, self.limit or self._declared))
        while not self.complete:
            message = await self.receive()
            chunk = message.get("body", b"")
            if chunk:
                if self._declared is None:
                    await self._take(len(chunk))
                chunks.append(chunk)
        if self.left.is_set():
            raise Cancelled(Reason.CANCELLED, "the client left before its body was complete")
        return b"".join(chunks)

    async def hold(self, size: int) -> int:
        """Take room for `size` bytes that a handler keeps of a stream. Return what is to be given to `release`."""
        return await self._take(size)

    def release(self, taken: int) -> None:
        """Give room back."""
        self._room.give(taken)

    async def discard(self) -> None:
        """Take in some of what is left, for a moment."""
        left = _DISCARD_BYTES
        try:
            async with asyncio.timeout(_DISCARD_SECONDS):
                while left > 0 and not self.complete:
                    message = await self._receive()
                    left -= len(message.get("body", b"")) + 1
                    self.complete = message["type"] == "http.disconnect" or not message.get("more_body", False)
        except TimeoutError:
            return

    async def _take(self, size: int) -> int:
        try:
            async with asyncio.timeout(_ROOM_SECONDS):
                return await self._room.take(size)
        except TimeoutError:
            raise Overloaded(
                Reason.OVERLOADED,
                "other requests hold all bytes that bodies may have here (message_bytes): send it again later",
            ) from None

    def _check_rate(self) -> None:
        settings = self._settings
        beyond = self._waited_s - settings.body_seconds
        if beyond > 0 and self.received < settings.body_rate * beyond:
            raise DeadlineExceeded(
                Reason.DEADLINE_EXCEEDED,
                f"the body comes more slowly than {settings.body_rate} bytes a second (body_rate): send it faster",
                metadata={"limit": settings.body_rate},
            )

    def _too_large(self) -> Overloaded:
        return Overloaded(
            Reason.MESSAGE_TOO_LARGE,
            f"the body has more than {self.limit} bytes (body_bytes): send fewer or smaller images in one request, or "
            "many of them by POST /v1/ingest",
            metadata={"limit": self.limit},
        )


def room_for_bodies(settings: HttpSettings, memory: int) -> Budget:
    """Return the bytes that bodies may hold together: message_bytes, a third of the memory at most."""
    return Budget(min(settings.message_bytes, memory // 3) if memory else settings.message_bytes)
