"""The items of an engine: what is asked for one, and its outcome."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeAlias, TypeVar

from lensmesh_inference.cache.observer import CacheOutcome
from lensmesh_inference.images.pool import DecodePool

In = TypeVar("In")
Value = TypeVar("Value")


class Timing(NamedTuple):
    """The times of one item, in microseconds.

    `queue_us` is all that is neither preprocessing nor the model: waiting for room, a thread, the device, or for
    another caller's computation of the same content. `batch_size` is 0 where the model did not run for this item.
    """

    queue_us: int
    preprocess_us: int
    compute_us: int
    total_us: int
    batch_size: int
    cache: CacheOutcome = CacheOutcome.UNASKED


class Completed(NamedTuple, Generic[Value]):
    """The result of the model for one item."""

    value: Value
    timing: Timing


@dataclass(frozen=True)
class Failed:
    """The reason why one item of a batch has no answer, and after how many microseconds that was known."""

    error: Exception
    total_us: int


ItemOutcome: TypeAlias = Completed[Value] | Failed


@dataclass(frozen=True, eq=False, kw_only=True)
class EngineItem(Generic[In, Value]):
    """The request of one item to a model.

    `prepare` runs in a thread of `pool` (None: the engine's own), within a span called `step`, and makes what the model
    takes. Where it is `brief` it takes a fraction of a millisecond, waits for nothing and needs no care, and may run on
    the event loop. `size_bytes` is the memory that the item holds until it is answered. `group` is what `group_of` will
    return for it, None where that is not known yet. `scope` names what is made of `content`: equal contents of one
    scope have equal answers, and the cache is asked. An empty scope leaves the cache out. `part` is the scope of those
    who ask for less, and a function that returns their answer out of this one: it is kept as well. `convert` turns the
    model's answer into what was asked for; its result is not kept. `given_up` is called once nothing more is computed
    for the item. `attributes` returns what a span may tell of it.
    """

    prepare: Callable[[], In]
    size_bytes: int
    step: str = "decode"
    brief: bool = False
    group: Hashable | None = None
    content: bytes = b""
    scope: str = ""
    part: tuple[str, Callable[[Value], Value]] | None = None
    convert: Callable[[Value], Value] | None = None
    given_up: Callable[[], None] | None = None
    pool: DecodePool | None = None
    attributes: Callable[[], Mapping[str, str | int]] = dict
