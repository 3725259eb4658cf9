"""The figures that people compare, computed from the time of each call: rates, percentiles, where the time went."""

from __future__ import annotations

import itertools
import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

# Items of one batch are answered within some milliseconds of each other: the next group begins after a longer gap.
SAME_GROUP_S = 0.005
SAME_GROUP_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class ItemTimes:
    """The times of one item in the service, in seconds."""

    queue_s: float
    decode_s: float
    forward_s: float
    batch: int
    """Items in its batch; 0 where no model ran."""
    cached: bool


@dataclass(frozen=True, slots=True)
class CallSample:
    """A call, or one item of a stream. Times are of one clock, in seconds."""

    began: float
    """The time when it was sent. In an open loop it is when it was due, so that a late client hides nothing."""
    ended: float
    items: int
    errors: tuple[str, ...] = ()
    """Reasons, one for each item that failed."""
    steps: tuple[ItemTimes, ...] = ()


@dataclass(frozen=True, slots=True)
class Latency:
    """Percentiles of latency, in milliseconds."""

    p50: float
    p95: float
    p99: float
    max: float


@dataclass(frozen=True, slots=True)
class Split:
    """The mean milliseconds of an item in each part of the service, and the mean size of its batch."""

    queue: float
    decode: float
    forward: float
    batch: float


@dataclass(frozen=True, slots=True)
class LoadFigures:
    """The figures of one measurement."""

    rate: float
    """The items a second that were answered without error, in the steady state."""
    latency_ms: Latency | None
    """The latency of calls, or of items in a stream. None where nothing was answered without error."""
    items: int
    errors: Mapping[str, int] = field(default_factory=dict)
    split_ms: Split | None = None
    cached: int = 0
    """Items that a cache answered, or another computation of the same content. The model did not compute them."""
    offered: float | None = None
    """Items a second that an open loop sent."""


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which that share (0 to 1) of the values lies.

    Between two values it is interpolated linearly.
    """
    if not values:
        raise ValueError("no values, no percentile")
    if not 0 <= share <= 1:
        raise ValueError(f"a share lies between 0 and 1, not at {share}")
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def steady_rate(ends: Sequence[tuple[float, int]]) -> float:
    """Return the items a second of answers that came at these times, each time with its count of items.

    Answers come in groups, a batch at a time. All answers after the first group, up to the last one, are counted over
    the time between the two: a fixed time would count one batch more or less. The rate is 0 where no groups can be told
    apart.
    """
    ordered = sorted(ends)
    if len(ordered) < 2:
        return 0.0
    times = [time for time, _ in ordered]
    gaps = [later - sooner for sooner, later in itertools.pairwise(times)]
    same = max(SAME_GROUP_S, SAME_GROUP_SHARE * max(gaps))
    first = next((index for index, gap in enumerate(gaps) if gap > same), None)
    if first is None or times[first] - times[0] > (times[-1] - times[0]) / 2:
        return 0.0
    return sum(count for _, count in ordered[first + 1 :]) / (times[-1] - times[first])


def summarize(samples: Sequence[CallSample], begin: float, end: float, offered: float | None = None) -> LoadFigures:
    """Summarize what ended between `begin` and `end`.

    Where a service was so slow that nothing ended then, later answers count: a rough figure is better than none.
    """
    counted = [sample for sample in samples if begin <= sample.ended <= end]
    if samples and not counted:
        begin, end = min(sample.began for sample in samples), max(sample.ended for sample in samples)
        counted = list(samples)
    good = [sample for sample in counted if len(sample.errors) < sample.items]
    steps = [step for sample in good for step in sample.steps]
    took_ms = [1000 * (sample.ended - sample.began) for sample in good]
    items = sum(sample.items - len(sample.errors) for sample in good)
    groups = steady_rate([(sample.ended, sample.items - len(sample.errors)) for sample in good])
    return LoadFigures(
        # One group has no time between groups, and a thousand answers a second come in none.
        rate=groups or items / (end - begin),
        latency_ms=_latency(took_ms) if took_ms else None,
        items=items,
        errors=dict(Counter(reason for sample in counted for reason in sample.errors)),
        split_ms=None if not steps else _split(steps),
        cached=sum(step.cached for step in steps),
        offered=offered,
    )


def _latency(took_ms: Sequence[float]) -> Latency:
    p50, p95, p99 = (percentile(took_ms, share) for share in (0.5, 0.95, 0.99))
    return Latency(p50, p95, p99, max(took_ms))


def _split(steps: Sequence[ItemTimes]) -> Split:
    return Split(
        queue=1000 * statistics.fmean(step.queue_s for step in steps),
        decode=1000 * statistics.fmean(step.decode_s for step in steps),
        forward=1000 * statistics.fmean(step.forward_s for step in steps),
        batch=statistics.fmean(step.batch for step in steps),
    )
