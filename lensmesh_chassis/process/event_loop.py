"""The event loop of a service's process: uvloop's where it is there, and asyncio's own elsewhere."""

import asyncio
import importlib.util
from collections.abc import Callable


def has_uvloop() -> bool:
    """Tell whether uvloop is installed: it exists for CPython, and not on Windows."""
    return importlib.util.find_spec("uvloop") is not None


def loop_factory(wanted: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what makes the event loop that a setting wants: "auto", "uvloop" or "asyncio"."""
    if wanted == "asyncio" or not has_uvloop():
        return asyncio.new_event_loop
    # Imported here: whoever wants the other one need not have it.
    import uvloop

    return uvloop.new_event_loop
