"""A prediction of how long a batch will take, learned from earlier ones.

For each group it is a straight line, seconds = fixed + per_item * items, fitted to measurements. Recent batches of a
size count more. There is no clock in this module: its callers measure.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

# What a measurement still counts after the next one of its size, and after the next one of another.
DECAY = 0.9
OTHERS_DECAY = 0.99
# A size that counts less is forgotten, some 700 batches of others after its last.
LEAST_WEIGHT = 1e-3
# Each of so many batches of a group is to be one that tells the fixed part anew. That is at most some hundredths of the
# throughput.
TRIAL_EVERY = 16
# What is left of a size's weight when it comes again after half as many batches of others: the machine is another then.
OLD = 0.25
# Sizes that differ by less do not tell what is fixed from what an item takes: chance is larger.
APART = 2.0
# The share of a batch's time that its items take if they cost nothing: what rounding leaves.
NOTHING = 1e-9
# Groups that are remembered: generation parameters are the callers' and have no end.
MOST_GROUPS = 256
# A batch that took longer than this many times what its size usually takes counts as this long: one stall of the
# machine is no news of the model. Should all be so slow from now on, a few batches suffice to learn it.
SURPRISE = 4.0


@dataclass(slots=True)
class _Size:
    """The decaying means of the batches of about one size."""

    weight: float = 0.0
    items: float = 0.0
    seconds: float = 0.0
    last: int = 0
    """Number of its last batch, of all batches of the line."""

    def add(self, items: int, seconds: float) -> None:
        """Add one measurement."""
        if self.seconds:
            seconds = min(seconds, SURPRISE * self.seconds * items / self.items)
        self.weight = self.weight * DECAY + 1
        self.items += (items - self.items) / self.weight
        self.seconds += (seconds - self.seconds) / self.weight


class _Line:
    """The line through the means of the sizes.

    It is fitted by least squares of relative errors, so that large batches do not outweigh small ones. A size that has
    not come for long still counts: a device that ran batches of one size for a while would otherwise forget what it
    knew of others. After a very long time the size is forgotten.
    """

    def __init__(self) -> None:
        self.sizes: dict[int, _Size] = {}
        self.count = 0
        """Number of batches so far."""
        self.fit = 0.0, 0.0
        """Fixed seconds, and seconds for each item; neither is negative."""

    def add(self, items: int, seconds: float) -> None:
        """Add one measurement."""
        this = self.sizes.setdefault(_size_class(items), _Size())
        for other in self.sizes.values():
            other.weight *= OTHERS_DECAY
        if len(self.sizes) > 1:
            self.sizes = {size: one for size, one in self.sizes.items() if one is this or one.weight >= LEAST_WEIGHT}
        self.count += 1
        if self.count - this.last > TRIAL_EVERY // 2:
            this.weight *= OLD
        this.last = self.count
        this.add(items, seconds)
        self.fit = self._fitted()

    def _fitted(self) -> tuple[float, float]:
        means = [(one.items, one.seconds, one.weight / one.seconds**2) for one in self.sizes.values() if one.seconds]
        if len(means) < 2:
            return (0.0, means[0][1] / means[0][0]) if means else (0.0, 0.0)
        least, most = min(items for items, _, _ in means), max(items for items, _, _ in means)
        if most >= APART * least:
            weights = sum(weight for _, _, weight in means)
            items_mean = sum(weight * items for items, _, weight in means) / weights
            seconds_mean = sum(weight * seconds for _, seconds, weight in means) / weights
            off = [(items - items_mean, seconds, weight) for items, seconds, weight in means]
            per_item = _slope(off)
            if per_item * most < NOTHING * seconds_mean:
                return seconds_mean, 0.0
            fixed = seconds_mean - per_item * items_mean
            if fixed >= 0:
                return fixed, per_item
        # All of about one size, or small ones cheaper than a line allows: proportional.
        return 0.0, _slope(means)


def _slope(points: Sequence[tuple[float, float, float]]) -> float:
    """Return the slope of the line through 0 that fits points and their weights best."""
    return sum(weight * x * y for x, y, weight in points) / sum(weight * x * x for x, _, weight in points)


@dataclass
class _Group:
    line: _Line = field(default_factory=_Line)
    first: tuple[int, float] | None = None
    """The very first batch, warm-up included: better than nothing until the second."""
    quickest_s: float = float("inf")
    sizes: set[tuple[int, int]] = field(default_factory=set)
    """Pairs of device and size class that have run."""


class Costs:
    """The predictions of one model's batches."""

    def __init__(self) -> None:
        self._groups: OrderedDict[Hashable, _Group] = OrderedDict()
        self._all = _Line()

    def learn(self, device: int, group: Hashable, items: int, seconds: float) -> None:
        """Learn that a batch of so many items took so long on that device.

        The first batch of a size on a device may have compiled or warmed up something. Its time does not count, but
        that it ran does.
        """
        known = self._groups.setdefault(group, _Group())
        self._groups.move_to_end(group)
        if len(self._groups) > MOST_GROUPS:
            self._groups.popitem(last=False)
        size = (device, _size_class(items))
        if size not in known.sizes:
            known.sizes.add(size)
            known.first = known.first or (items, seconds)
            return
        # An item's share: what is dropped because of this is never measured again, so it has to be a lower bound.
        known.quickest_s = min(known.quickest_s, seconds / items)
        known.line.add(items, seconds)
        self._all.add(items, seconds)

    def has_run(self, device: int, group: Hashable, items: int) -> bool:
        """Tell whether a batch of about this size has run on that device.

        Sizes up to the same power of two count as one.
        """
        known = self._groups.get(group)
        return known is not None and (device, _size_class(items)) in known.sizes

    def seconds(self, group: Hashable, items: int) -> float:
        """Return the seconds that a batch of a group will take; 0 where nothing was ever measured."""
        fixed, per_item = self._fit(group)
        return fixed + per_item * items if items else 0.0

    def queue_seconds(self, group: Hashable, items: int, batch: int) -> float:
        """Return the seconds that so many items of a group will take in batches of `batch`."""
        fixed, per_item = self._fit(group)
        return fixed * -(-items // batch) + per_item * items

    def seconds_besides(self, group: Hashable) -> float:
        """Return the fixed seconds of a batch of the group, without its items' own."""
        return self._fit(group)[0]

    def wants_trial(self, group: Hashable) -> bool:
        """Tell whether the next batch of a group should be short, so that it tells what is fixed.

        Batches that were measured when a stream began, while other work had the processors, say little of now. Where
        they made the fixed part look large, all that follow would be long, and nothing would tell that it is small.
        """
        known = self._groups.get(group)
        return known is not None and known.line.count % TRIAL_EVERY == TRIAL_EVERY - 1

    def items_in(self, group: Hashable, seconds: float) -> int | None:
        """Return how many items of a group make a batch of that length. None: they cost nothing, or it is not known."""
        fixed, per_item = self._fit(group)
        return int(max(0.0, seconds - fixed) / per_item + 1e-9) if per_item and math.isfinite(seconds) else None

    def quickest_s(self, group: Hashable) -> float:
        """Return the least time in which any batch has answered an item of the group; 0 where not known."""
        known = self._groups.get(group)
        return known.quickest_s if known and known.line.sizes else 0.0

    def extra_bulk_items(self, group: Hashable, items: int, slowdown: float) -> int | None:
        """Return how many items may join a batch of `items` until it takes `slowdown` times as long.

        None: any number.
        """
        known = self._groups.get(group)
        fixed, per_item = known.line.fit if known is not None and known.line.sizes else (0.0, 0.0)
        if not per_item:
            return None
        return int((slowdown - 1) * (fixed + per_item * items) / per_item + 1e-9)

    def _fit(self, group: Hashable) -> tuple[float, float]:
        known = self._groups.get(group)
        if known is not None and known.line.sizes:
            return known.line.fit
        if known is not None and known.first is not None:
            items, seconds = known.first
            return 0.0, seconds / items
        return self._all.fit


def _size_class(items: int) -> int:
    return (items - 1).bit_length()
