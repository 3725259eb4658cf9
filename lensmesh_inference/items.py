"""What an engine is asked for one item, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeAlias, TypeVar

from lensmesh_inference.cache.observer import CacheOutcome
from lensmesh_inference.images.pool import DecodePool

In = TypeVar("In")
Value = TypeVar("Value")


@dataclass(frozen=True)
class Timing:
    """Where one item's time went, in microseconds.

    `queue_us` is all that is neither preprocessing nor the model: waiting for room, a thread, the device, or for
    somebody else's computation of the same content. `batch_size` is 0 where the model did not run for this item.
    """

    queue_us: int
    preprocess_us: int
    compute_us: int
    total_us: int
    batch_size: int
    cache: CacheOutcome = CacheOutcome.UNASKED


@dataclass(frozen=True)
class Completed(Generic[Value]):
    """What the model made of one item."""

    value: Value
    timing: Timing


@dataclass(frozen=True)
class Failed:
    """Why one item of a batch has no answer, and after how many microseconds that was known."""

    error: Exception
    total_us: int


ItemOutcome: TypeAlias = Completed[Value] | Failed


@dataclass(frozen=True, eq=False, kw_only=True)
class EngineItem(Generic[In, Value]):
    """What one item asks of a model.

    `prepare` runs in a thread of `pool` (None: the engine's own), within a span called `step`, and makes what the model
    takes; `size_bytes` is what the item holds of memory until it is answered. `group` is what `group_of` will say of
    it, None where that is not known yet. Where `scope` names what is made of `content`, equal contents of one scope
    have equal answers, and the cache is asked; an empty one leaves the cache out. `convert` makes of the model's answer
    what was asked for, and is not kept. `given_up` is called once nothing more is computed for it. `attributes` are
    what a span may tell of it.
    """

    prepare: Callable[[], In]
    size_bytes: int
    step: str = "decode"
    group: Hashable | None = None
    content: bytes = b""
    scope: str = ""
    convert: Callable[[Value], Value] | None = None
    given_up: Callable[[], None] | None = None
    pool: DecodePool | None = None
    attributes: Mapping[str, str | int] = field(default_factory=dict)
