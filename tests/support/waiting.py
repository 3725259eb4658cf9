"""Waiting for a state, with a bound that only a broken program reaches."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable

PATIENCE_S = 180.0


async def until(
    condition: Callable[[], object | Awaitable[object]], what: str = "", *, seconds: float = PATIENCE_S
) -> None:
    """Wait until `condition` is true, or what it returns once awaited. Fails with `what` after `seconds`.

    The state may belong to a thread, another process or a server that signals nobody: so it is asked for.
    """
    try:
        async with asyncio.timeout(seconds):
            while True:
                found = condition()
                if await found if inspect.isawaitable(found) else found:
                    return
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"not within {seconds:g} s: {what or 'the state that is waited for'}") from None


def wait_until(condition: Callable[[], object], what: str = "", *, seconds: float = PATIENCE_S) -> None:
    """Block until `condition` is true. Fails as `until` does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds:g} s: {what or 'the state that is waited for'}"
        time.sleep(0.01)
