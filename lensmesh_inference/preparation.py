"""The part of a request that is done in one go, nearly always in a thread: digest, look-up in memory, decoding."""

from __future__ import annotations

import time
from typing import Final, Generic, TypeVar

from lensmesh_inference.images.care import NeedsCareError
from lensmesh_inference.request import Request

In = TypeVar("In")
Out = TypeVar("Out")
Value = TypeVar("Value")

# A larger image may take as long to decode as ten of the usual ones.
_LONG_BYTES: Final = 1024 * 1024


class Preparation(Generic[In, Out, Value]):
    """The preparation of one request: digest, look-up, and decoding if need be."""

    __slots__ = ("_since_ns", "computes", "error", "found", "prepared", "request", "seconds", "waits")

    def __init__(self, request: Request[In, Out, Value]) -> None:
        self.request = request
        self.found: Value | None = None
        self.waits = False
        """True where another caller's computation is waited for."""
        self.prepared: In | None = None
        self.seconds = 0.0
        """Seconds that the item itself took, without digest and look-up."""
        self.error: Exception | None = None
        self.computes = False
        self._since_ns = time.time_ns() if request.span.recorded else 0

    @property
    def wanted(self) -> bool:
        return not self.request.stopped

    @property
    def long(self) -> bool:
        return len(self.request.item.content) > _LONG_BYTES

    def run(self) -> None:
        request = self.request
        try:
            if not self.computes and not self._has_to_compute():
                return
            self.computes = True
            with request.span.step(request.item.step, self._since_ns, NeedsCareError):
                started = time.monotonic()
                self.prepared = request.item.prepare()
                self.seconds = time.monotonic() - started
        except NeedsCareError:
            raise
        except Exception as error:  # noqa: BLE001 - it is told as the item's outcome
            self.error = error
        except BaseException as error:  # noqa: BLE001 - what would end a thread is one more fault of an item
            self.error = RuntimeError(f"the preparation was left by {type(error).__name__}")
            self.error.__cause__ = error

    def refuse(self, error: Exception) -> None:
        self.error = error

    def _has_to_compute(self) -> bool:
        request = self.request
        if not request.cached:
            return True
        key = request.digest()
        # It may have been computed while this one waited for room, or for a thread.
        self.found = request.parts.look_here(key)
        if self.found is not None:
            return False
        self.waits = not request.alone and not request.parts.flights.join(key, request)
        return not self.waits
