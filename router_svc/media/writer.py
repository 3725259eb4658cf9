"""Writes images into the media store beside all else, again and again until it takes them."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from lensmesh_chassis.telemetry.logging import get_logger
from router_svc.media.calls import BoundedCalls
from router_svc.media.forms import WEBP, KeptForm, media_type_of
from router_svc.media.metrics import MediaMetrics
from router_svc.media.outage import Outage
from router_svc.media.store import MediaStore
from router_svc.media.waiting import WaitingImage, WaitingRoom

# How long an ingest waits for room.
MOMENT_S: Final = 0.5
_AT_ONCE: Final = 8
_WRITE_S: Final = 10.0
_FIRST_PAUSE_S: Final = 0.25
_LONGEST_PAUSE_S: Final = 30.0
# An image that a store refuses while it takes others does not wait for ever.
_MOST_TRIES: Final = 10
_END_S: Final = 5.0
log = get_logger(__name__)


class MediaWriter:
    """A task that writes what waits, several images at a time; one, after growing pauses, while the store is away."""

    def __init__(
        self,
        store: MediaStore,
        room: WaitingRoom,
        outage: Outage,
        metrics: MediaMetrics,
        written: Callable[[KeptForm, bytes], None],
    ) -> None:
        """Write to `store` what comes into `room`; `written` is told of each image that is there."""
        self._store = store
        self._room = room
        self._outage = outage
        self._metrics = metrics
        self._written = written
        self._calls = BoundedCalls(_AT_ONCE, _WRITE_S)
        # Of all images since the start, and of those in a row that failed.
        self._successes, self._failures = 0, 0
        # A wait for room was in vain: the next ones are not begun until something has been written.
        self._in_vain = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._run())

    async def keep(self, form: KeptForm, digest: bytes, content: bytes) -> None:
        """Let an image wait for its write. It takes a moment at most: what finds no room is dropped."""
        image = WaitingImage(form, digest, content)
        if self._room.get(form, digest) is not None:
            return
        if not self._room.has_room(image.size):
            patient = not self._in_vain and not self._outage.trouble
            if not patient or not await self._room.room(image.size, MOMENT_S):
                self._in_vain = True
                self._metrics.count(form, "dropped")
                return
        if self._room.get(form, digest) is None:
            self._room.add(image)
            self._metrics.waiting(self._room.held_bytes)

    async def stop(self) -> None:
        """Write what waits, as far as the store takes it within seconds; the rest is dropped."""
        if self._task is None:
            return
        if not self._outage.trouble:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_END_S):
                    await self._room.nothing()
        self._task.cancel()
        await asyncio.wait([self._task])
        await self._calls.close()
        if left := self._room.clear():
            log.warning("images were not written into the media store: ingest them again", images=len(left))
        for image in left:
            self._metrics.count(image.form, "dropped")

    async def _run(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            await self._room.something()
            away = bool(self._outage.trouble)
            due = self._room.first(1) if away else self._room.first(_AT_ONCE, clock())
            # Of a store that hangs some calls may not have ended.
            due = due[: max(0, self._calls.free)]
            done = await asyncio.gather(*(self._write(image) for image in due))
            if not any(done):
                await asyncio.sleep(self._pause(self._failures))

    async def _write(self, image: WaitingImage) -> bool:
        kind = WEBP if image.form is KeptForm.THUMBNAIL else media_type_of(image.content)
        try:
            await self._calls.run(self._store.put(image.form.key(image.digest), image.content, kind))
        except Exception as error:  # noqa: BLE001 - whatever it is, the other images are to be written
            self._failed(image, str(error) or type(error).__name__)
            return False
        self._successes += 1
        self._failures = 0
        self._in_vain = False
        self._room.remove(image)
        self._outage.end()
        self._metrics.count(image.form, "written")
        self._metrics.waiting(self._room.held_bytes)
        self._written(image.form, image.digest)
        return True

    def _failed(self, image: WaitingImage, why: str) -> None:
        self._metrics.count(image.form, "failed")
        self._failures += 1
        if not image.tries:
            image.others_before = self._successes
        image.tries += 1
        if image.tries >= _MOST_TRIES and self._successes > image.others_before:
            log.warning("the media store takes other images and not this one: it is dropped", why=why)
            self._room.remove(image)
            self._metrics.count(image.form, "dropped")
            return
        image.not_before = asyncio.get_running_loop().time() + self._pause(image.tries)
        self._room.put_back(image)
        self._outage.begin(why)

    @staticmethod
    def _pause(failures: int) -> float:
        return min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(max(0, failures - 1), 16))
