"""The selection of the next batch, or of the time until which a device should wait for more.

It is pure: the caller passes the time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from typing import Generic, NamedTuple, TypeVar

from lensmesh_inference.batching.costs import Costs
from lensmesh_inference.batching.lanes import Lane, LaneQueue, QueuedItem

In = TypeVar("In")
A = TypeVar("A")

# After so many interactive batches in a row, one bulk batch goes: bulk keeps a fifth of a device that is wanted by
# both.
INTERACTIVE_BATCHES_IN_A_ROW = 4
# Bulk items join a batch of interactive ones for as long as that takes them hardly longer.
EXTRA_BULK_SLOWDOWN = 1.25
# After an interactive batch the next one is expected for so long.
INTERACTIVE_EXPECTED_S = 10.0
# Smaller than this share of the largest batch no bulk batch is made, nor one of which more than that share of the time
# would be what any batch costs: below, batching gains too much to give it up.
LEAST_BULK_SHARE = 1 / 8
MOST_FIXED_SHARE = 1 / 4


class BatchChoice(NamedTuple, Generic[In, A]):
    """A batch to run now, or nothing. `late` items cannot be done in time, and are out of the queue.

    `look_again` is when waiting for more of a bulk batch ends, on the batcher's clock.
    """

    batch: list[QueuedItem[In, A]]
    late: list[QueuedItem[In, A]]
    look_again: float | None = None


class Selector(Generic[In, A]):
    """A selector of batches from two lanes: interactive before bulk, bulk never starved, one group in a batch.

    `linger_s` is the longest that a bulk batch which is not full waits for items that are being prepared. It never
    waits longer than the batch will take, so that waiting costs at most half of the throughput. It does not wait while
    an interactive item waits. While interactive items come, a bulk batch takes no longer than `bulk_batch_s` or the
    longest of the interactive batches before it, as far as can be predicted, because the next caller waits for it.
    `kind_of` names what `costs` knows a group by.
    """

    def __init__(
        self,
        lanes: Mapping[Lane, LaneQueue[In, A]],
        costs: Costs,
        *,
        linger_s: float,
        bulk_batch_s: float,
        kind_of: Callable[[Hashable], Hashable],
    ) -> None:
        self._interactive, self._bulk = lanes[Lane.INTERACTIVE], lanes[Lane.BULK]
        self._costs = costs
        self._linger_s = linger_s
        self._bulk_batch_s = bulk_batch_s
        self._kind_of = kind_of
        self._interactive_in_a_row = 0
        self._interactive_until = -math.inf
        self._interactive_s = 0.0

    def choose(self, now: float, limit: int) -> BatchChoice[In, A]:
        """Return what a device should do that takes up to `limit` items and is free now."""
        late: list[QueuedItem[In, A]] = []
        while self._interactive.queued_items or self._bulk.queued_items:
            lane, group, look_again = self._next_group(now, limit)
            if lane is None:
                return BatchChoice([], late, look_again)
            interactive = lane is self._interactive
            room = limit if interactive else self._bulk_limit(group, now, limit)
            batch = self._take(lane, group, room, now, late)
            if not batch:
                continue
            if interactive:
                self._expect_more(now, self._costs.seconds(self._kind_of(group), len(batch)))
                if self._bulk.queued_in(group):
                    extra = self._costs.extra_bulk_items(self._kind_of(group), len(batch), EXTRA_BULK_SLOWDOWN)
                    room = limit - len(batch) if extra is None else min(extra, limit - len(batch))
                    batch += self._take(self._bulk, group, room, now, late)
            else:
                self._interactive_in_a_row = 0
                batch += self._take(self._interactive, group, room - len(batch), now, late)
            return BatchChoice(batch, late)
        return BatchChoice([], late)

    def is_late(self, entry: QueuedItem[In, A], now: float) -> bool:
        """Tell whether the deadline of an entry cannot be met, even if it were in a device now."""
        return entry.deadline is not None and entry.deadline - now <= self._costs.quickest_s(self._kind_of(entry.group))

    def _next_group(self, now: float, limit: int) -> tuple[LaneQueue[In, A] | None, Hashable, float | None]:
        turn_of_bulk = self._interactive_in_a_row >= INTERACTIVE_BATCHES_IN_A_ROW and self._bulk.queued_items
        if self._interactive.queued_items and not turn_of_bulk:
            return self._interactive, self._interactive.groups()[0], None
        look_again: float | None = None
        for group in self._bulk.groups():
            until = self._lingers_until(group, now, limit)
            if until is None or until <= now:
                return self._bulk, group, None
            look_again = until if look_again is None else min(look_again, until)
        return None, None, look_again

    def _expect_more(self, now: float, batch_s: float) -> None:
        """Note that an interactive batch begins that will take so long."""
        self._interactive_s = max(self._interactive_s, batch_s) if self._interactive_in_a_row else batch_s
        self._interactive_in_a_row += 1
        self._interactive_until = now + batch_s + INTERACTIVE_EXPECTED_S

    def _bulk_limit(self, group: Hashable, now: float, limit: int) -> int:
        """Return how many items a bulk batch may have now."""
        if now > self._interactive_until:
            return limit
        kind = self._kind_of(group)
        worth_s = 0.0 if self._costs.wants_trial(kind) else self._costs.seconds_besides(kind) / MOST_FIXED_SHARE
        fits = self._costs.items_in(kind, max(self._bulk_batch_s, self._interactive_s, worth_s))
        return limit if fits is None else min(limit, max(1, math.ceil(LEAST_BULK_SHARE * limit), fits))

    def _lingers_until(self, group: Hashable, now: float, limit: int) -> float | None:
        ready = self._bulk.queued_in(group)
        limit = self._bulk_limit(group, now, limit)
        if self._interactive.queued_items or ready >= limit or not self._linger_s or not self._bulk.is_coming(group):
            return None
        predicted_s = self._costs.seconds(self._kind_of(group), ready)
        return self._bulk.lingering_since(group, now) + min(self._linger_s, predicted_s or self._linger_s)

    def _take(
        self, lane: LaneQueue[In, A], group: Hashable, count: int, now: float, late: list[QueuedItem[In, A]]
    ) -> list[QueuedItem[In, A]]:
        """Take up to `count` entries that can still be done in time. Others met on the way go to `late`."""
        taken: list[QueuedItem[In, A]] = []
        while len(taken) < count and (entries := lane.take(group, count - len(taken))):
            for entry in entries:
                (late if self.is_late(entry, now) else taken).append(entry)
        return taken
