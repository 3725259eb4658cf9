"""Tells which images a media store lacks, without waiting long for its answer."""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from router_svc.media.calls import BoundedCalls
from router_svc.media.forms import KeptForm
from router_svc.media.known import KnownDigests
from router_svc.media.outage import Outage
from router_svc.media.store import MediaStore
from router_svc.media.waiting import WaitingRoom

_LOOK_S: Final = 0.5
_AT_ONCE: Final = 64
# A store that does not answer is not asked again for so long.
_PAUSE_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Lacking:
    """What the media store lacks of one image."""

    thumbnail: bool = False
    original: bool = False
    certain: bool = True
    """False where the store could not be asked: an image that has to be looked at anyway is taken to be missing."""


NOTHING: Final = Lacking()


class Inventory:
    """Asks a media store, and remembers what is there."""

    def __init__(self, store: MediaStore, forms: Collection[KeptForm], room: WaitingRoom, outage: Outage) -> None:
        """Look for `forms` of images, those in `room` included. `outage` is told of failures."""
        self._store = store
        self._room = room
        self._outage = outage
        self._known = {form: KnownDigests() for form in forms}
        self._calls = BoundedCalls(_AT_ONCE, _LOOK_S)
        self._asking_again: asyncio.Task[None] | None = None

    def there(self, form: KeptForm, digest: bytes) -> None:
        """Note that an image is there."""
        self._known[form].add(digest)

    def gone(self, form: KeptForm, digest: bytes) -> None:
        """Note that an image is not there any more."""
        self._known[form].discard(digest)

    async def lacking(self, digests: Collection[bytes], *, ask: bool) -> Mapping[bytes, Lacking]:
        """Tell of each image what is lacking; of those that lack nothing, nothing.

        The store is asked about images that nobody knows, where `ask` allows it. It has a moment to answer.
        """
        unknown = [
            (form, digest)
            for form, known in self._known.items()
            for digest in digests
            if digest not in known and self._room.get(form, digest) is None
        ]
        if not unknown:
            return {}
        found = await asyncio.gather(*(self._has(form, digest, ask=ask) for form, digest in unknown))
        missing = {pair: has is not None for pair, has in zip(unknown, found, strict=True) if not has}
        return {
            digest: Lacking(
                (KeptForm.THUMBNAIL, digest) in missing,
                (KeptForm.ORIGINAL, digest) in missing,
                all(missing.get((form, digest), True) for form in KeptForm),
            )
            for _, digest in missing
        }

    async def close(self) -> None:
        """Wait no longer for any answer."""
        if self._asking_again is not None:
            self._asking_again.cancel()
            await asyncio.wait([self._asking_again])
        await self._calls.close()

    async def _ask_again(self, key: str) -> None:
        """Ask every few seconds until there is an answer. Nobody else asks meanwhile."""
        try:
            while True:
                await asyncio.sleep(_PAUSE_S)
                try:
                    await self._calls.run(self._store.has(key))
                except Exception as error:  # noqa: BLE001 - as above
                    self._outage.begin(str(error) or type(error).__name__)
                else:
                    self._outage.end()
                    return
        finally:
            self._asking_again = None

    async def _has(self, form: KeptForm, digest: bytes, *, ask: bool) -> bool | None:
        """Tell whether an image is there; None where the store does not say so."""
        if not ask or self._asking_again is not None or not self._calls.free:
            return None
        try:
            has = await self._calls.run(self._store.has(form.key(digest)))
        except Exception as error:  # noqa: BLE001 - whatever it is, the image is ingested
            self._outage.begin(str(error) or type(error).__name__)
            if self._asking_again is None:
                self._asking_again = asyncio.create_task(self._ask_again(form.key(digest)))
            return None
        if has:
            self._known[form].add(digest)
        return has
