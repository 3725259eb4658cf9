"""What waits for a media store: images by form and digest, of a bounded number of bytes."""

import asyncio
import contextlib
import itertools
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from router_svc.media.forms import KeptForm

# Of one image beside its bytes: its names and its places in tables.
_OVERHEAD_BYTES: Final = 512


@dataclass(slots=True, eq=False)
class WaitingImage:
    """An image that is to be written."""

    form: KeptForm
    digest: bytes
    content: bytes
    tries: int = 0
    """Writes of it that have failed."""
    not_before: float = 0.0
    """Time of the event loop's clock before which it is not tried again, while others are written."""
    others_before: int = 0
    """Writes of all images that had succeeded when its first one failed."""

    @property
    def size(self) -> int:
        """The bytes that it counts for."""
        return len(self.content) + _OVERHEAD_BYTES


class WaitingRoom:
    """Images in the order in which they came, or were tried last. To be used on the event loop."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._images: OrderedDict[tuple[KeptForm, bytes], WaitingImage] = OrderedDict()
        self._left = asyncio.Event()
        self._came = asyncio.Event()
        self.held_bytes = 0
        """Bytes of all images in it."""

    def __len__(self) -> int:
        return len(self._images)

    def get(self, form: KeptForm, digest: bytes) -> WaitingImage | None:
        """Return an image that waits; None where it does not."""
        return self._images.get((form, digest))

    def has_room(self, size: int) -> bool:
        """Tell whether an image of so many bytes finds room. One that is larger than all of it has it alone."""
        return not self._images or self.held_bytes + size <= self._max_bytes

    async def room(self, size: int, within_s: float) -> bool:
        """Wait until there is room, and tell whether there is."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while not self.has_room(size):
                    await self._left.wait()
        return self.has_room(size)

    def add(self, image: WaitingImage) -> None:
        """Let an image wait. There must be room for it."""
        self._images[image.form, image.digest] = image
        self.held_bytes += image.size
        self._came.set()

    def remove(self, image: WaitingImage) -> None:
        """Let an image go."""
        if self._images.pop((image.form, image.digest), None) is not None:
            self.held_bytes -= image.size
            self._left.set()
            self._left = asyncio.Event()

    def put_back(self, image: WaitingImage) -> None:
        """Put an image behind all others."""
        self._images.move_to_end((image.form, image.digest))

    def first(self, most: int, now: float | None = None) -> list[WaitingImage]:
        """Return the first images: of those only that may be tried at `now`, where that is given."""
        due = (image for image in self._images.values() if now is None or image.not_before <= now)
        return list(itertools.islice(due, most))

    async def something(self) -> None:
        """Wait until an image waits."""
        while not self._images:
            self._came = asyncio.Event()
            await self._came.wait()

    async def nothing(self) -> None:
        """Wait until no image waits."""
        while self._images:
            await self._left.wait()

    def clear(self) -> list[WaitingImage]:
        """Let all images go, and return them."""
        left = list(self._images.values())
        for image in left:
            self.remove(image)
        return left
