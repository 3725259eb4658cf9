"""Signals that ask a command to end, on every platform."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator
from typing import Any

_NUMBERS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def first_signal(asked: Callable[[], None]) -> Iterator[None]:
    """Call `asked` in the running event loop at the first SIGINT or SIGTERM; a second one ends the command at once."""
    loop = asyncio.get_running_loop()
    # The event loops of Windows know no signals; what was there before them comes back.
    replaced: dict[int, Any] = {}

    def off() -> None:
        for number in _NUMBERS:
            if number in replaced:
                signal.signal(number, replaced[number])
            else:
                loop.remove_signal_handler(number)

    def first() -> None:
        off()
        asked()

    for number in _NUMBERS:
        try:
            loop.add_signal_handler(number, first)
        except NotImplementedError:
            replaced[number] = signal.signal(number, lambda *_: loop.call_soon_threadsafe(first))
    try:
        yield
    finally:
        off()
