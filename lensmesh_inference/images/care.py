"""Decoding with care: images whose headers do not prove them cheap are decoded in processes with limits."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from typing import Final

from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.devices import cpu_count
from lensmesh_inference.images.budget import DecodeBudget
from lensmesh_inference.images.counts import DecodeCounts
from lensmesh_inference.images.messages import DecodeAnswer, DecodeRefusal, DecodeRequest
from lensmesh_inference.images.pieces import Structure
from lensmesh_inference.images.processes import DecodeProcesses
from lensmesh_inference.images.raster import Pixels, cost_by_pillow

# More of them would take the memory of more images than the budget has room for.
_MOST_PROCESSES: Final = 4
# Of images that cost too much, so many are remembered: the newest.
_MOST_REFUSED: Final = 4096
_thread = threading.local()


class NeedsCareError(Exception):
    """The image needs careful decoding, and the calling thread may not do it: others wait for that thread."""


def be_quick() -> None:
    """Mark the calling thread as quick: careful decoding in it raises ``NeedsCareError``."""
    _thread.quick = True


class CarefulDecoding:
    """A decoder whose processes are started when they are needed. Safe to call from many threads."""

    def __init__(self, memory_bytes: int, cpu_s: float, counts: DecodeCounts | None = None) -> None:
        """Give all images together `memory_bytes`, and each image `cpu_s` seconds on a processor.

        Refusals are counted in `counts`.
        """
        self._counts = counts or DecodeCounts()
        self._budget = DecodeBudget(memory_bytes)
        self._processes = DecodeProcesses(min(cpu_count(), _MOST_PROCESSES), "pillow", cpu_s=cpu_s, counts=self._counts)
        self._refused: OrderedDict[bytes, DecodeRefusal] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def total_bytes(self) -> int:
        """The bytes that all images together may take."""
        return self._budget.total_bytes

    @property
    def threads(self) -> int:
        """The number of threads that keep the processes busy."""
        return self._processes.count

    @property
    def pids(self) -> list[int]:
        """The ids of its processes."""
        return self._processes.pids

    def decode(self, content: bytes, asked: DecodeRequest, structure: Structure) -> tuple[DecodeAnswer, Pixels]:
        """Decode one image.

        Raises ``InvalidInput`` for a bad image. The reason is IMAGE_TOO_COSTLY for an image that costs too much, and
        again for the same image later, which is then not tried. Raises ``NeedsCareError`` where the calling thread is a
        quick one.
        """
        if getattr(_thread, "quick", False):
            raise NeedsCareError
        key = hashlib.sha256(content).digest()
        with self._lock:
            refused = self._refused.get(key)
        if refused is not None:
            self._counts.refuse("known")
            raise refused.error_of(asked.field)
        cost = self._cost(structure, asked.limits.max_pixels)
        try:
            if cost > self._budget.total_bytes:
                self._counts.refuse("memory")
            with self._budget.hold(cost, asked.field):
                return self._processes.decode(content, asked, memory_bytes=cost)
        except InvalidInput as error:
            if error.reason is Reason.IMAGE_TOO_COSTLY:
                self._remember(key, DecodeRefusal.of(error))
            raise

    def give_up(self) -> None:
        """End the processes in the middle of their images, and start no more."""
        self._processes.give_up()

    def close(self) -> None:
        """End the processes. Call it when no thread decodes any more."""
        self._processes.close()

    def _cost(self, structure: Structure, max_pixels: int) -> int:
        most = self._budget.total_bytes
        if not structure.pixels:
            return most
        cost = cost_by_pillow(structure, structure.pixels)
        # What is too large is refused for that, once its header is read.
        return min(cost, most) if structure.pixels > max_pixels else cost

    def _remember(self, key: bytes, refused: DecodeRefusal) -> None:
        with self._lock:
            self._refused[key] = refused
            if len(self._refused) > _MOST_REFUSED:
                self._refused.popitem(last=False)
