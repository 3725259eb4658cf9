"""A computation of what several callers want at the same time.

A caller who asks for something that is being computed waits for it. The computation belongs to no caller: it lives as
long as any caller waits, and is stopped when none does. Three rules protect a caller from the others:

- An interactive caller does not wait in the bulk lane. It starts another computation in its own lane, and the first of
  the two that is done answers everybody and ends the other. So what a device has nearly finished is used, and what
  would wait long is overtaken.
- A failure goes to the caller whose computation it was. Others try on their own: their deadlines may be later, and a
  bad image has another name in their request. Only what the model itself fails on fails for all.
- A caller's own deadline ends its waiting for another one's computation.
"""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from lensmesh_chassis.errors import DeadlineExceeded, InternalFault
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.batching.lanes import Lane

T = TypeVar("T")


class Caller(ABC, Generic[T]):
    """A caller who wants one result. Whether it computes, `SingleFlight.join` tells.

    `deadline` is a time of the event loop's clock. The methods are called on the event loop.
    """

    flight: _Flight[T] | None = None
    left = False
    """True where it waits for nothing any more."""
    timer: asyncio.TimerHandle | None = None

    def __init__(self, lane: Lane, deadline: float | None) -> None:
        self.lane = lane
        self.deadline = deadline

    @abstractmethod
    def hear(self, value: T, *, own: bool) -> None:
        """Take the result. `own` says whether this caller's own computation made it."""

    @abstractmethod
    def fail(self, error: Exception) -> None:
        """Take the reason why there is no result."""

    @abstractmethod
    def try_again(self, *, alone: bool) -> None:
        """Ask once more, because another caller's computation failed; `alone`: without sharing it."""

    @abstractmethod
    def stop(self) -> None:
        """End the computation, which nobody wants."""


class _Flight(Generic[T]):
    """The callers of one key. Usually one of them computes, or two while an interactive one overtakes a bulk one."""

    def __init__(self, key: str) -> None:
        self.key = key
        # Dicts keep the order in which they came.
        self.waiting: dict[Caller[T], None] = {}
        self.computing: dict[Caller[T], None] = {}


class SingleFlight(Generic[T]):
    """The computations that are under way, by key."""

    def __init__(self) -> None:
        self._flights: dict[str, _Flight[T]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._flights)

    def join(self, key: str, caller: Caller[T]) -> bool:
        """Have a caller wait for the result of a key. Return whether it has to compute it itself, from any thread.

        It has to where nobody computes it in as good a lane. `waits` says on the event loop that it does not.
        """
        with self._lock:
            if caller.left:
                return False
            flight = self._flights.get(key)
            if flight is None:
                flight = self._flights[key] = _Flight(key)
            caller.flight = flight
            flight.waiting[caller] = None
            computes = all(caller.lane < other.lane for other in flight.computing)
            if computes:
                flight.computing[caller] = None
            return computes

    def waits(self, caller: Caller[T]) -> None:
        """Watch the deadline of a caller that waits for another's computation.

        That of a caller who computes is the queue's affair: what is in the device when it passes is still answered.
        """
        flight = caller.flight
        if caller.deadline is None or flight is None or caller.left or caller in flight.computing:
            return
        if caller.timer is None:
            caller.timer = asyncio.get_running_loop().call_at(caller.deadline, self._too_late, caller)

    def leave(self, caller: Caller[T]) -> None:
        """Let a caller go, and stop what nobody else waits for: its own computation, or another's."""
        with self._lock:
            caller.left = True
            flight = caller.flight
            if flight is not None:
                flight.waiting.pop(caller, None)
            unwanted = [caller] if flight is None else [] if flight.waiting else self._close(flight)
        _let_be(caller)
        for one in unwanted:
            one.stop()

    def succeeded(self, caller: Caller[T], value: T) -> None:
        """Tell the result of a caller's computation to all who wait for it."""
        told, unwanted = self._ended(caller, for_all=True)
        for one in unwanted:
            one.stop()
        for one in told:
            one.hear(value, own=one is caller)

    def failed(self, caller: Caller[T], error: Exception) -> None:
        """Tell that a caller's computation failed."""
        broken = isinstance(error, InternalFault)
        told, unwanted = self._ended(caller, for_all=broken)
        for one in unwanted:
            one.stop()
        for one in told:
            if one is caller or broken:
                one.fail(error)
            else:
                one.try_again(alone=not isinstance(error, DeadlineExceeded))

    def _ended(self, caller: Caller[T], *, for_all: bool) -> tuple[list[Caller[T]], list[Caller[T]]]:
        """Return the callers who are told how a computation ended, and those whose computations nobody wants now."""
        with self._lock:
            flight = caller.flight
            assert flight is not None, "only who joined computes for others"
            flight.computing.pop(caller, None)
            if for_all or not flight.computing:
                told = list(flight.waiting)
            else:
                told = [caller] if caller in flight.waiting else []
            for one in told:
                del flight.waiting[one]
                one.flight = None
            unwanted = [] if flight.waiting else self._close(flight)
        for one in told:
            _let_be(one)
        return told, unwanted

    def _close(self, flight: _Flight[T]) -> list[Caller[T]]:
        """Forget the flight. Return the callers whose computations are still under way."""
        # Another one may have begun under its key meanwhile.
        if self._flights.get(flight.key) is flight:
            del self._flights[flight.key]
        computing, flight.computing = list(flight.computing), {}
        return computing

    def _too_late(self, caller: Caller[T]) -> None:
        if caller.flight is None or caller.left:
            return
        self.leave(caller)
        message = "Its deadline passed while the same content was computed for another caller."
        caller.fail(DeadlineExceeded(Reason.DEADLINE_EXCEEDED, message))


def _let_be(caller: Caller[T]) -> None:
    """Watch a caller's deadline no longer."""
    if caller.timer is not None:
        caller.timer.cancel()
        caller.timer = None
