"""The media store as the rest of the router uses it: what ingest keeps, and what GetImage answers."""

import asyncio
from collections.abc import Collection, Mapping
from typing import Final

from prometheus_client import CollectorRegistry

from lensmesh.router.v1 import router_pb2
from lensmesh_chassis.errors import InvalidInput, NotFound, PreconditionFailed, Unavailable
from lensmesh_chassis.process.health import HealthState
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.telemetry.logging import get_logger
from router_svc.media.address import parse_media_url
from router_svc.media.calls import BoundedCalls
from router_svc.media.forms import WEBP, KeptForm, media_type_of
from router_svc.media.inventory import Inventory, Lacking
from router_svc.media.metrics import MediaMetrics
from router_svc.media.outage import Outage
from router_svc.media.store import MediaError, MediaStore, ObjectMediaStore, OversizedMediaError
from router_svc.media.waiting import WaitingRoom
from router_svc.media.writer import MediaWriter
from router_svc.settings import RouterSettings

PART: Final = "media"
"""The name in grpc.health of the media store's part."""
_READ_S: Final = 10.0
_THUMBNAIL_READS: Final = 64
# Of up to 20 MiB each.
_ORIGINAL_READS: Final = 4
log = get_logger(__name__)


class Media:
    """Images that one router keeps. Where no media store is set it keeps nothing, and says so."""

    def __init__(
        self,
        settings: RouterSettings,
        health: HealthState,
        registry: CollectorRegistry,
        store: MediaStore | None = None,
    ) -> None:
        """Keep what the settings say, in the store that they name, or in `store`."""
        address = parse_media_url(settings.media_url)
        if store is None and address is not None:
            store = ObjectMediaStore(address)
        self._store = store
        self._place = str(address or "")
        self._health = health
        self._keeps_originals = settings.keep_originals
        self._max_bytes = settings.max_message_bytes
        self.thumbnail_px = settings.thumbnail_px if store is not None else 0
        """The longer side of thumbnails that are to be made; 0: none are."""
        self._room = WaitingRoom(settings.media_waiting_bytes)
        metrics = MediaMetrics(registry)
        if store is None:
            return
        forms = list(KeptForm) if settings.keep_originals else [KeptForm.THUMBNAIL]
        self._writes = Outage("written", self._place, self._tell)
        self._looks = Outage("asked", self._place, self._tell)
        self._inventory = Inventory(store, forms, self._room, self._looks)
        self._writer = MediaWriter(store, self._room, self._writes, metrics, self._inventory.there)
        self._reads = {KeptForm.THUMBNAIL: _THUMBNAIL_READS, KeptForm.ORIGINAL: _ORIGINAL_READS}
        self._reading = {form: BoundedCalls(most, _READ_S) for form, most in self._reads.items()}
        self._turns = {form: asyncio.Semaphore(most) for form, most in self._reads.items()}

    @property
    def keeps(self) -> bool:
        """True where anything is kept."""
        return self._store is not None

    @property
    def trouble(self) -> str:
        """Text that says why the store takes nothing, or does not answer; empty while it works."""
        return (self._writes.trouble or self._looks.trouble) if self.keeps else ""

    def start(self) -> None:
        """Begin to write what ingest brings."""
        if self._store is not None:
            self._tell()
            self._writer.start()
            log.info("images are kept", store=self._place, originals=self._keeps_originals)

    async def stop(self) -> None:
        """Write what waits, as far as that takes no longer than seconds."""
        if self._store is not None:
            await self._writer.stop()
            await self._inventory.close()
            for calls in self._reading.values():
                await calls.close()

    def info(self) -> router_pb2.MediaInfo:
        """Tell what is kept."""
        return router_pb2.MediaInfo(
            thumbnails=self.keeps,
            originals=self.keeps and self._keeps_originals,
            thumbnail_px=self.thumbnail_px,
            trouble=self.trouble,
        )

    async def lacking(self, digests: Collection[bytes]) -> Mapping[bytes, Lacking]:
        """Tell which of some images are not kept yet, and what of them. Raises nothing, and takes a moment at most."""
        # Whoever cannot write may well be asked, but it may hang.
        return await self._inventory.lacking(digests, ask=not self._writes.trouble) if self._store is not None else {}

    async def keep(self, form: KeptForm, digest: bytes, content: bytes) -> None:
        """Keep an image from now on. Raises nothing, and takes a moment at most."""
        if self._store is not None and content:
            await self._writer.keep(form, digest, content)

    async def get(self, form: KeptForm, digest: bytes) -> tuple[bytes, str]:
        """Return an image and its media type.

        Raises ``PreconditionFailed`` for a form that is not kept here, ``NotFound``, and ``Unavailable`` where the
        store does not answer.
        """
        if self._store is None:
            raise _not_kept("images", "media_url")
        if form is KeptForm.ORIGINAL and not self._keeps_originals:
            raise _not_kept("files as they came", "keep_originals")
        content = await self._read(self._store, form, digest)
        return content, WEBP if form is KeptForm.THUMBNAIL else media_type_of(content)

    async def _read(self, store: MediaStore, form: KeptForm, digest: bytes) -> bytes:
        if (waiting := self._room.get(form, digest)) is not None:
            return waiting.content
        try:
            async with self._turns[form]:
                content = await self._reading[form].run(store.get(form.key(digest), self._max_bytes))
        except OversizedMediaError:
            raise InvalidInput(
                Reason.RESPONSE_TOO_LARGE,
                f"the {form} has more than {self._max_bytes} bytes, the most that a message holds",
                field="content_digest",
                metadata={"limit_bytes": self._max_bytes},
            ) from None
        except MediaError as error:
            raise Unavailable(Reason.MEDIA_UNAVAILABLE, f"the media store does not answer: {error}") from error
        if content is None:
            self._inventory.gone(form, digest)
            raise NotFound(
                Reason.MEDIA_NOT_FOUND,
                f"no {form} of {digest.hex()} is kept: ingest the image, again where it is stored already",
                metadata={"content_digest": digest.hex(), "form": form},
            )
        return content

    def _tell(self) -> None:
        self._health.set_part_reason(PART, self.trouble)


def _not_kept(what: str, setting: str) -> PreconditionFailed:
    return PreconditionFailed(
        Reason.MEDIA_NOT_KEPT,
        f"this router keeps no {what}: set LENSMESH_ROUTER_{setting.upper()} there",
        metadata={"setting": setting},
    )
