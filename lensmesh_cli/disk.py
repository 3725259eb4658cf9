"""Calls to the caller's own disk, limited in time, with errors in plain words.

A read from a mount that went away never returns, and at its end Python waits for every thread of a pool. So reads run
in daemon threads: a thread that hangs is left alone, and another takes its place.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from queue import SimpleQueue
from types import TracebackType
from typing import Generic, Self, TypeVar

from lensmesh_chassis.files import NotReadableError

T = TypeVar("T")

DEFAULT_SECONDS = 30.0
MOST_STUCK = 8
"""The calls that may hang at a time. Beyond that no further call is tried, because it could hang too."""

_FIXES = {
    errno.EACCES: "change its permissions, or name another place",
    errno.EPERM: "change its permissions, or name another place",
    errno.ENOSPC: "the disk is full: free some space, or name another place",
    errno.EDQUOT: "your quota is used up: free some space, or name another place",
    errno.EROFS: "that disk takes no writes: name another place",
    errno.ENOENT: "is the name right, and its folder there?",
    errno.ENOTDIR: "a part of the path is no folder",
    errno.EISDIR: "it is a folder: name a file",
    errno.ELOOP: "it is a link that leads to itself",
    errno.ENAMETOOLONG: "the name is longer than the disk allows",
    errno.EMFILE: "too many files are open: raise `ulimit -n`",
    errno.ENFILE: "too many files are open on this machine",
    errno.EIO: "the disk could not read or write it: check the disk",
    errno.ESTALE: "its mount went away: mount it again",
    errno.ENOTCONN: "its mount went away: mount it again",
    errno.EHOSTDOWN: "its mount went away: mount it again",
}


def explain(error: OSError, what: str = "") -> str:
    """Return a sentence that says what the caller's disk refused, and the fix.

    `what` is the name to use where the error holds none.
    """
    name = what or (os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else "")
    # One with words of its own has no strerror; str() would repeat a file's name that was taken out.
    why = error.strerror or (str(error.args[0]) if error.args else "") or type(error).__name__
    fix = _FIXES.get(error.errno or 0, "")
    return (f"{name}: {why}" if name else why) + (f" ({fix})" if fix else "")


@dataclass(slots=True, eq=False)
class Pending(Generic[T]):
    """A call that runs in a separate thread."""

    future: Future[T]
    disk: Disk

    def result(self) -> T:
        """Wait for the result, as long as the disk may take.

        Raises what the call raised, or NotReadableError when it hangs.
        """
        try:
            return self.future.result(self.disk.seconds)
        except TimeoutError:
            if self.future.done():
                raise
            self.disk.give_up(self)
            raise NotReadableError(
                f"the disk gave no answer within {self.disk.seconds:g} s: is its mount there?"
            ) from None


class Disk:
    """Daemon threads for calls that may hang. Each call has `seconds`, and a thread is kept for the next call."""

    def __init__(self, seconds: float = DEFAULT_SECONDS) -> None:
        self.seconds = seconds
        self._idle: list[SimpleQueue[Callable[[], None] | None]] = []
        self._closed = False
        self._stuck: set[Pending[object]] = set()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the threads, each after its current call. None is waited for."""
        with self._lock:
            self._closed = True
            for work in self._idle:
                work.put(None)
            self._idle.clear()

    def run(self, call: Callable[[], T]) -> T:
        """Make one call. Raises what the call raises, and NotReadableError where it hangs."""
        return self.start(call).result()

    def start(self, call: Callable[[], T]) -> Pending[T]:
        """Begin one call."""
        pending = Pending[T](Future(), self)
        with self._lock:
            if len(self._stuck) >= MOST_STUCK:
                pending.future.set_exception(
                    NotReadableError(f"not tried: {MOST_STUCK} reads before it hang; is the disk or its mount there?")
                )
                return pending
            work = self._idle.pop() if self._idle else None
        if work is None:
            work = SimpleQueue()
            threading.Thread(target=self._serve, args=(work,), name="lensmesh-disk", daemon=True).start()
        work.put(lambda: self._answer(pending, call))
        return pending

    def give_up(self, pending: Pending[T]) -> None:
        """Count a call as hanging until it returns."""
        with self._lock:
            if not pending.future.done():
                self._stuck.add(pending)  # type: ignore[arg-type]  # only its identity matters

    def _answer(self, pending: Pending[T], call: Callable[[], T]) -> None:
        try:
            result = call()
        except BaseException as error:  # noqa: BLE001  # whatever it is belongs to the waiting thread
            pending.future.set_exception(error)
        else:
            pending.future.set_result(result)
        with self._lock:
            self._stuck.discard(pending)

    def _serve(self, work: SimpleQueue[Callable[[], None] | None]) -> None:
        while (call := work.get()) is not None:
            call()
            with self._lock:
                if self._closed:
                    return
                self._idle.append(work)
