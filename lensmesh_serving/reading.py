"""Reading of the items of calls and streams: at once what came with the message, by a task what has to be fetched.

A service has one function for both. It is given a fetcher that fetches nothing first, and a real one where it asks for
an address.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeAlias, TypeVar

from lensmesh_chassis.images.inputs import Fetching
from lensmesh_inference.items import EngineItem

Item = TypeVar("Item", bound=EngineItem[Any, Any])

# A function that makes the engine's item of one in a message. It awaits nothing but the fetcher that it is given. What
# it raises concerns this item alone.
Reader: TypeAlias = Callable[[Fetching], Coroutine[Any, Any, Item]]


class _IsElsewhereError(Exception):
    """The image is given by address."""


class _Nowhere:
    """Stand-in for a fetcher where nothing shall be fetched."""

    async def fetch(self, uri: str, field: str, /) -> bytes:
        raise _IsElsewhereError


_NOWHERE = _Nowhere()


def read_here(read: Reader[Item]) -> Item | Exception | None:
    """Return an item, or what reading it raises; None for one that has to be fetched."""
    reading = read(_NOWHERE)
    try:
        reading.send(None)
    except StopIteration as done:
        item: Item = done.value
        return item
    except _IsElsewhereError:
        return None
    except Exception as error:  # noqa: BLE001 - an item fails alone; to_status logs what is not meant for callers
        return error
    raise AssertionError("a reader awaits nothing but its fetcher")


async def read_elsewhere(read: Reader[Item], fetches: Fetching) -> Item | Exception:
    """Return an item that has to be fetched, or what reading it raises."""
    try:
        return await read(fetches)
    except Exception as error:  # noqa: BLE001 - as above
        return error


async def read_items(reads: Sequence[Reader[Item]], fetches: Fetching) -> list[Item | Exception]:
    """Return the items of a call in order, each or what reading it raises. All fetching is done at the same time."""
    items = [read_here(read) for read in reads]
    elsewhere = [index for index, item in enumerate(items) if item is None]
    fetched = await asyncio.gather(*(read_elsewhere(reads[index], fetches) for index in elsewhere)) if elsewhere else []
    for index, item in zip(elsewhere, fetched, strict=True):
        items[index] = item
    return [item for item in items if item is not None]
