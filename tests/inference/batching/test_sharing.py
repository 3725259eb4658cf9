"""Bulk batches are short while somebody interactive comes again and again, and full otherwise. In virtual time."""

from __future__ import annotations

import asyncio
import math

import pytest

from lensmesh_inference.batching.batcher import Lane
from lensmesh_inference.batching.costs import Costs
from lensmesh_inference.batching.selection import INTERACTIVE_EXPECTED_S
from tests.inference.batching.virtual import Batch, Item, Model, put, run

TEXTS = 1


def played(*, every_s: float, until_s: float, bulk_batch_s: float, max_batch: int = 32, rides: int = 1) -> Model:
    """Bulk without end, and `rides` interactive texts together every so often."""
    model = Model(fixed_s=0.0, per_item_s=0.125)

    async def scenario() -> None:
        batcher = model.batcher(max_batch=max_batch, max_queue_items=100_000, bulk_batch_s=bulk_batch_s)
        bulk = [put(batcher, Item(number)) for number in range(1000)]
        await batcher.start()
        # Texts come just before the end of the second batch, which is the first that costs are learnt from.
        await asyncio.sleep(2 * max_batch * 0.125 - 0.0625)
        texts = []
        while asyncio.get_running_loop().time() < until_s:
            texts += [put(batcher, Item(-1, Lane.INTERACTIVE, TEXTS)) for _ in range(rides)]
            await asyncio.sleep(every_s)
        await asyncio.gather(*bulk, *texts)
        await batcher.stop()

    run(scenario())
    return model


def bulk_of(batches: list[Batch]) -> list[int]:
    return [len(batch.items) for batch in batches if batch.items[0].lane is Lane.BULK]


def test_bulk_batches_are_short_while_texts_come_and_full_again_afterwards() -> None:
    model = played(every_s=1.0, until_s=30.0, bulk_batch_s=1.0)
    first = next(number for number, batch in enumerate(model.batches) if batch.items[0].lane is Lane.INTERACTIVE)
    last = max(number for number, batch in enumerate(model.batches) if batch.items[0].lane is Lane.INTERACTIVE)
    assert set(bulk_of(model.batches[:first])) == {32}
    # A second at an eighth of a second each.
    assert set(bulk_of(model.batches[first + 3 : last])) == {8}
    over = model.batches[last].started + INTERACTIVE_EXPECTED_S
    after = [batch for batch in model.batches[last:] if batch.started > over + 1]
    assert set(bulk_of(after)[:-1]) == {32}
    # Nothing is lost by it.
    assert sorted(number for batch in model.sets for number in batch if number >= 0) == list(range(1000))


def test_they_do_not_get_smaller_than_an_eighth_of_the_largest() -> None:
    model = played(every_s=1.0, until_s=30.0, bulk_batch_s=0.01)
    assert min(bulk_of(model.batches)) == 4
    assert min(bulk_of(played(every_s=0.5, until_s=10.0, bulk_batch_s=0.01, max_batch=3).batches)) == 1


def test_they_may_take_as_long_as_interactive_batches_do() -> None:
    """Else bulk would keep far less than a fifth of a device that both want."""
    model = played(every_s=2.0, until_s=40.0, bulk_batch_s=0.25, rides=16)
    shared = [batch for batch in model.batches if 12 < batch.started < 30]
    assert {16} == set(bulk_of(shared))


def test_without_a_limit_batches_are_full() -> None:
    model = played(every_s=1.0, until_s=30.0, bulk_batch_s=math.inf)
    assert set(bulk_of(model.batches)[:-1]) == {32}


@pytest.mark.parametrize(("seconds", "items"), [(0.0, 0), (1.0, 0), (1.5, 1), (2.9, 3), (3.0, 4), (math.inf, None)])
def test_items_in_a_time(seconds: float, items: int | None) -> None:
    costs = Costs()
    for count in (1, 2, 4, 8):
        for _ in range(2):
            costs.learn(0, "images", count, 1.0 + 0.5 * count)
    assert costs.items_in("images", seconds) == items


def test_nobody_knows_how_many_items_fit_before_any_was_measured() -> None:
    assert Costs().items_in("images", 1.0) is None


def test_they_are_not_so_short_that_most_of_the_time_is_what_any_batch_costs() -> None:
    """As captions on a GPU: their steps cost the same for one image and for many."""
    model = Model(fixed_s=2.0, per_item_s=0.125)

    async def scenario() -> None:
        batcher = model.batcher(max_batch=64, max_queue_items=100_000, bulk_batch_s=0.5)
        # Of several sizes, so that it is known what a batch costs and what an item.
        for count in (64, 64, 32, 32, 16, 16):
            await asyncio.gather(*(put(batcher, Item(number)) for number in range(count)), batcher.start())
        text = put(batcher, Item(-1, Lane.INTERACTIVE, TEXTS))
        await asyncio.sleep(0.25)
        await asyncio.gather(text, *(put(batcher, Item(number)) for number in range(200)))
        await batcher.stop()

    run(scenario())
    text = next(number for number, batch in enumerate(model.batches) if batch.items[0].lane is Lane.INTERACTIVE)
    # A quarter of 8 s are those 2 s, and 6 s are left for 48 items.
    assert bulk_of(model.batches[text:])[0] == 48


class _SlowAtFirst(Model):
    """A device whose first nine batches take a second more: decoding has the processors when a stream begins."""

    def seconds(self, items: int) -> float:
        return super().seconds(items) + (1.0 if len(self.batches) <= 9 else 0.0)


def test_a_fixed_part_that_was_only_chance_is_found_out() -> None:
    model = _SlowAtFirst(fixed_s=0.0, per_item_s=0.125)

    async def scenario() -> None:
        batcher = model.batcher(max_batch=32, max_queue_items=100_000, bulk_batch_s=0.5)
        for count in (4, 8, 32) * 3:
            await asyncio.gather(*(put(batcher, Item(number)) for number in range(count)), batcher.start())
        bulk = [put(batcher, Item(number)) for number in range(900)]
        texts = []
        while not all(task.done() for task in bulk):
            texts.append(put(batcher, Item(-1, Lane.INTERACTIVE, TEXTS)))
            await asyncio.sleep(1.0)
        await asyncio.gather(*bulk, *texts)
        await batcher.stop()

    run(scenario())
    sizes = bulk_of(model.batches)[9:]
    # Four times the second that any batch seems to cost, of which the images have three.
    assert 24 in sizes[:8]
    # Half a second is four images.
    assert max(sizes[24:]) <= 5
