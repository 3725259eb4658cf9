"""A bulk batch waits a moment for what is being prepared; nothing interactive ever does. In virtual time."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from lensmesh_inference.batching.batcher import Batcher, Lane
from tests.inference.batching.asking import coming, submit
from tests.inference.batching.virtual import Item, Model, run


async def come(batcher: Batcher[Item, int], item: Item, prepared_s: float, group: int | None = 0) -> int:
    with coming(batcher, item.lane, group):
        await asyncio.sleep(prepared_s)
    return (await submit(batcher, item, lane=item.lane, size_bytes=1, group=item.group)).value


def played(*comings: tuple[Item, float], linger_s: float = 0.5, model: Model | None = None) -> Model:
    """All come at once and are prepared for so long."""
    played = model or Model()

    async def scenario() -> None:
        batcher = played.batcher(linger_s=linger_s)
        await batcher.start()
        await asyncio.gather(*(come(batcher, item, prepared_s) for item, prepared_s in comings))
        await batcher.stop()

    run(scenario())
    return played


def test_a_bulk_batch_waits_for_what_is_on_its_way() -> None:
    model = played((Item(0), 0.0), (Item(1), 0.25), (Item(2), 0.25))
    assert model.sets == [[0, 1, 2]]
    # Not a moment longer than until the last has come.
    assert model.batches[0].started == 0.25


def test_a_full_batch_waits_for_nobody() -> None:
    model = played(*((Item(number), 0.0) for number in range(4)), (Item(4), 0.25))
    assert model.batches[0].started == 0
    assert model.sets[0] == [0, 1, 2, 3]


def test_waiting_ends_in_time() -> None:
    model = played((Item(0), 0.0), (Item(1), 10.0), linger_s=0.5)
    assert model.sets == [[0], [1]]
    assert model.batches[0].started == 0.5


def test_no_wait_where_nothing_is_on_its_way_or_only_another_group() -> None:
    assert played((Item(0), 0.0)).batches[0].started == 0

    async def scenario() -> None:
        batcher = model.batcher(linger_s=0.5)
        await batcher.start()
        await asyncio.gather(come(batcher, Item(0), 0.0), come(batcher, Item(1, group=1), 0.25, group=1))
        await batcher.stop()

    model = Model()
    run(scenario())
    assert model.batches[0].started == 0


def test_what_is_on_its_way_in_an_unknown_group_is_waited_for_too() -> None:
    async def scenario() -> None:
        batcher = model.batcher(linger_s=0.5)
        await batcher.start()
        await asyncio.gather(come(batcher, Item(0), 0.0), come(batcher, Item(1), 0.25, group=None))
        await batcher.stop()

    model = Model()
    run(scenario())
    assert model.sets == [[0, 1]]


def test_interactive_items_never_wait_and_end_the_waiting_of_bulk() -> None:
    model = played((Item(0, Lane.INTERACTIVE), 0.0), (Item(1, Lane.INTERACTIVE), 0.25))
    assert [batch.started for batch in model.batches] == [0, 1.5]
    model = played((Item(0), 0.0), (Item(1), 0.5), (Item(2, Lane.INTERACTIVE, group=1), 0.25))
    assert model.sets[0] == [2]
    assert model.batches[0].started == 0.25


def test_it_never_waits_longer_than_the_batch_will_take() -> None:
    model = Model(fixed_s=0.125, per_item_s=0)

    async def scenario() -> None:
        batcher = model.batcher(linger_s=10)
        await batcher.start()
        for _ in range(2):
            await come(batcher, Item(0), 0.0)
        began = asyncio.get_running_loop().time()
        await asyncio.gather(come(batcher, Item(1), 0.0), come(batcher, Item(2), 5.0))
        assert model.batches[2].started - began == pytest.approx(0.125)
        await batcher.stop()

    run(scenario())


def test_what_fails_on_its_way_is_not_waited_for() -> None:
    async def undecodable(batcher: Batcher[Item, int]) -> None:
        with contextlib.suppress(ValueError), coming(batcher, Lane.BULK, 0):
            await asyncio.sleep(0.125)
            raise ValueError("no image")

    async def scenario() -> None:
        batcher = model.batcher(linger_s=0.5)
        await batcher.start()
        await asyncio.gather(come(batcher, Item(0), 0.0), undecodable(batcher))
        await batcher.stop()

    model = Model()
    run(scenario())
    assert model.batches[0].started == 0.125


def test_a_group_that_is_ready_goes_before_one_that_waits() -> None:
    async def scenario() -> None:
        batcher = model.batcher(linger_s=0.5)
        await batcher.start()
        await asyncio.gather(
            come(batcher, Item(0), 0.0), come(batcher, Item(1), 0.25), come(batcher, Item(2, group=1), 0.125, group=1)
        )
        await batcher.stop()

    model = Model()
    run(scenario())
    assert model.sets == [[2], [0, 1]]
    assert model.batches[0].started == 0.125


def test_a_bulk_batch_whose_turn_it_is_waits_for_nothing_while_something_interactive_waits() -> None:
    # Five interactive batches of two: after four of them it is the turn of bulk, of which one item is still to come.
    ready = [Item(number, Lane.INTERACTIVE, group=1) for number in range(10)] + [Item(10)]
    model = Model()

    async def scenario() -> None:
        batcher = model.batcher(max_batch=2, linger_s=0.5)
        await batcher.start()
        late = asyncio.create_task(come(batcher, Item(11), 100.0))
        await asyncio.gather(late, *(come(batcher, item, 0.0, group=item.group) for item in ready))
        await batcher.stop()

    run(scenario())
    assert [batch.numbers for batch in model.batches[4:6]] == [[10], [8, 9]]
    assert [batch.started for batch in model.batches[:5]] == [0, 2, 4, 6, 8]
