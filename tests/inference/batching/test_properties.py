"""Whatever comes, in whatever order, and whatever breaks: the batcher's promises, on generated schedules."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import ceil, log2

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lensmesh_chassis.errors import (
    DeadlineExceeded,
    InternalFault,
    InvalidInput,
    LensmeshError,
    Overloaded,
    Unavailable,
)
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.batching.batcher import Batcher, Lane
from lensmesh_inference.batching.selection import INTERACTIVE_BATCHES_IN_A_ROW
from tests.inference.batching.asking import coming, submit
from tests.inference.batching.virtual import Batch, Item, Model, run

# The same examples each time: a test that fails only now and then tells nothing of the change that it fails on.
examples = settings(max_examples=100, deadline=None, derandomize=True, database=None)

SLACK_S = 1e-6


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Iterator[None]:
    logger = logging.getLogger("lensmesh_inference.batching")
    logger.setLevel(logging.CRITICAL + 1)
    yield
    logger.setLevel(logging.NOTSET)


@dataclass(frozen=True)
class Visit:
    """One item's way: when it comes, how long it is prepared, when its caller leaves."""

    item: Item
    comes_s: float
    prepared_s: float = 0.0
    leaves_s: float | None = None
    """After it came."""
    deadline_s: float | None = None
    """After it came."""
    size_bytes: int = 1
    streamed: bool = False


@dataclass
class World:
    """A schedule played out."""

    model: Model
    batcher: Batcher[Item, int]
    outcomes: dict[int, int | BaseException] = field(default_factory=dict)
    left_at: dict[int, float] = field(default_factory=dict)
    queued_at: dict[int, float] = field(default_factory=dict)
    deadlines: dict[int, float] = field(default_factory=dict)

    async def play(self, visits: list[Visit]) -> None:
        """Until everybody has an outcome."""
        await self.batcher.start()
        await asyncio.gather(*(self._visit(visit) for visit in visits))
        await self.batcher.stop()

    async def _visit(self, visit: Visit) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(visit.comes_s)
        if visit.deadline_s is not None:
            self.deadlines[visit.item.number] = loop.time() + visit.deadline_s
        task = asyncio.create_task(self._come(visit))
        if visit.leaves_s is not None:
            loop.call_later(visit.leaves_s, self._leave, visit.item.number, task)
        try:
            self.outcomes[visit.item.number] = await task
        except (asyncio.CancelledError, LensmeshError) as error:
            self.outcomes[visit.item.number] = error

    def _leave(self, number: int, task: asyncio.Task[int]) -> None:
        if task.cancel():
            self.left_at[number] = asyncio.get_running_loop().time()

    async def _come(self, visit: Visit) -> int:
        item, deadline = visit.item, self.deadlines.get(visit.item.number)
        if visit.streamed:
            reservation = await self.batcher.admit_when_room(item.lane, size_bytes=visit.size_bytes)
        else:
            reservation = self.batcher.admit(item.lane, items=1, size_bytes=visit.size_bytes, deadline=deadline)
        with reservation:
            with coming(self.batcher, item.lane, item.group):
                await asyncio.sleep(visit.prepared_s)
            self.queued_at[item.number] = asyncio.get_running_loop().time()
            answer = await submit(
                self.batcher,
                item,
                lane=item.lane,
                size_bytes=visit.size_bytes,
                group=item.group,
                deadline=deadline,
                reservation=reservation,
            )
            return answer.value


def seconds(most: float) -> st.SearchStrategy[float]:
    """Multiples of 1/8: exact in floats, and often at the same moment."""
    return st.integers(0, int(most * 8)).map(lambda eighths: eighths / 8)


@st.composite
def visits(draw: st.DrawFn, *, faults: bool = True, most: int = 24) -> list[Visit]:
    """A schedule of items that are numbered in order."""
    plans: list[Visit] = []
    for number in range(draw(st.integers(1, most))):
        item = Item(
            number,
            draw(st.sampled_from(Lane)),
            draw(st.integers(0, 1)),
            poison=faults and draw(st.integers(0, 9)) == 0,
            bad=faults and draw(st.integers(0, 9)) == 0,
            size=draw(st.integers(1, 3)),
        )
        plans.append(
            Visit(
                item,
                draw(seconds(8)),
                draw(seconds(1)),
                draw(st.none() | seconds(10)) if faults else None,
                draw(st.none() | seconds(12)) if faults else None,
                draw(st.integers(1, 6)),
                draw(st.booleans()),
            )
        )
    return plans


@st.composite
def models(draw: st.DrawFn, *, faults: bool = True) -> Model:
    """Workers, what they cost, and what happens to them."""
    workers = draw(st.integers(1, 3))
    return Model(
        workers,
        fixed_s=draw(seconds(1)) + 0.125,
        per_item_s=draw(seconds(1)),
        memory=draw(st.just(float("inf")) | st.integers(2, 8)) if faults else float("inf"),
        lost_at=draw(st.dictionaries(st.integers(0, workers - 1), st.integers(0, 5), max_size=workers))
        if faults
        else {},
    )


LIMITS = st.fixed_dictionaries(
    {
        "max_batch": st.integers(1, 6),
        "max_queue_items": st.integers(1, 12),
        "max_queue_bytes": st.integers(4, 40),
        "linger_s": st.sampled_from([0.0, 0.25, 1.0]),
        "max_wait_s": st.sampled_from([0.5, 4.0, 1000.0]),
    }
)


def play(model: Model, plan: list[Visit], limits: dict[str, float]) -> World:
    """The world after everybody has an outcome; on the way, nothing is ever over a limit."""

    async def scenario() -> World:
        world = World(model, model.batcher(**limits))
        batcher = world.batcher

        def never_over(batch: Batch) -> None:
            for _, items, queued, size_bytes in batcher.lane_depths():
                assert 0 <= queued <= items
                # One call may be larger than the lane, which then holds nothing else.
                assert items <= limits["max_queue_items"]
                assert size_bytes <= limits["max_queue_bytes"] or items == 1
            assert len(batch.items) <= limits["max_batch"]
            assert len({item.group for item in batch.items}) == 1
            assert len(set(batch.numbers)) == len(batch.numbers)
            for number in batch.numbers:
                assert number not in world.outcomes
                assert world.left_at.get(number, batch.started) >= batch.started
                assert world.deadlines.get(number, batch.started + 1) > batch.started

        model.watch = never_over
        await world.play(plan)
        assert (batcher.queued_items, batcher.held_items, batcher.held_bytes) == (0, 0, 0)
        return world

    return run(scenario())


@examples
@given(models(), visits(), LIMITS)
def test_every_item_gets_one_outcome_and_it_is_its_own(
    model: Model, plan: list[Visit], limits: dict[str, float]
) -> None:
    world = play(model, plan, limits)
    done = Counter(number for batch in model.batches if batch.done for number in batch.numbers)
    assert not [number for number, times in done.items() if times > 1]
    for visit in plan:
        item, outcome = visit.item, world.outcomes[visit.item.number]
        match outcome:
            case int():
                assert outcome == 2 * item.number
                assert done[item.number] == 1
            case asyncio.CancelledError():
                assert item.number in world.left_at
            case DeadlineExceeded():
                assert visit.deadline_s is not None
            case Overloaded():
                assert not visit.streamed
                assert outcome.retry_after_s is not None
                assert outcome.retry_after_s > 0
            case InvalidInput():
                assert item.bad
            case Unavailable():
                assert world.batcher.lost
            case InternalFault(reason=Reason.OUT_OF_MEMORY):
                assert item.size > model.memory
            case InternalFault():
                aboard = [batch for batch in model.batches if item.number in batch.numbers]
                assert item.poison or len({batch.worker for batch in aboard}) > 1
            case _:
                pytest.fail(f"{outcome!r}")


@examples
@given(models(faults=False), visits(faults=False), LIMITS)
def test_interactive_goes_first_and_no_device_idles(model: Model, plan: list[Visit], limits: dict[str, float]) -> None:
    world = play(model, plan, limits)
    in_a_row = 0
    free_at = dict.fromkeys(range(model.workers), 0.0)
    for batch in model.batches:
        lanes = {item.lane for item in batch.items}
        if lanes == {Lane.BULK} and batch.interactive_left:
            assert in_a_row >= INTERACTIVE_BATCHES_IN_A_ROW
        in_a_row = in_a_row + 1 if Lane.INTERACTIVE in lanes else 0
        for lane in lanes:
            oldest = min(world.queued_at[item.number] for item in batch.items if item.lane is lane)
            could_start = max(free_at[batch.worker], oldest)
            waited = batch.started - could_start
            assert waited <= (limits["linger_s"] if lane is Lane.BULK else 0) + SLACK_S
        free_at[batch.worker] = batch.started + batch.seconds


@examples
@given(
    interactive=st.lists(seconds(4), min_size=6, max_size=40),
    bulk=st.lists(seconds(4), min_size=1, max_size=4),
    max_batch=st.integers(1, 3),
)
def test_bulk_goes_after_four_interactive_batches_at_the_latest(
    interactive: list[float], bulk: list[float], max_batch: int
) -> None:
    model = Model()
    plan = [Visit(Item(number, Lane.INTERACTIVE), comes_s) for number, comes_s in enumerate(interactive)]
    plan += [Visit(Item(100 + number, Lane.BULK, group=1), comes_s) for number, comes_s in enumerate(bulk)]
    play(model, plan, {"max_batch": max_batch, "max_queue_items": 99, "max_queue_bytes": 999})
    past = 0
    for batch in model.batches:
        if batch.items[0].lane is Lane.BULK:
            assert past >= INTERACTIVE_BATCHES_IN_A_ROW or not batch.interactive_left
            past = 0
        else:
            # Whether anything bulk waited when the earlier ones began does not matter.
            past += 1
            assert past <= INTERACTIVE_BATCHES_IN_A_ROW or not batch.bulk_left


@examples
@given(gaps=st.lists(seconds(6), min_size=1, max_size=8), linger_s=st.sampled_from([0.0, 1.0]))
def test_an_interactive_item_waits_for_one_bulk_batch_at_most(gaps: list[float], linger_s: float) -> None:
    model = Model()
    bulk_s, own_s = model.seconds(4), model.seconds(1)
    plan = [Visit(Item(number, group=1), 0.0, number % 3 / 8) for number in range(80)]
    comes_s = 0.0
    for number, gap_s in enumerate(gaps):
        # The one before has been answered by then.
        comes_s += gap_s + bulk_s + own_s
        plan.append(Visit(Item(100 + number, Lane.INTERACTIVE), comes_s))
    limits = {"max_batch": 4, "max_queue_items": 999, "max_queue_bytes": 999, "linger_s": linger_s}
    world = play(model, plan, limits)
    started = {number: batch.started for batch in model.batches for number in batch.numbers}
    for visit in plan[80:]:
        assert started[visit.item.number] - world.queued_at[visit.item.number] <= bulk_s + SLACK_S


@examples
@given(st.integers(1, 16), st.data())
def test_a_poison_item_fails_alone_and_costs_few_runs(size: int, data: st.DataObject) -> None:
    poison = data.draw(st.sets(st.integers(0, size - 1), max_size=3))
    model = Model()
    plan = [Visit(Item(number, poison=number in poison), 0.0) for number in range(size)]
    world = play(model, plan, {"max_batch": 16, "max_queue_items": 99, "max_queue_bytes": 99})
    for number, outcome in world.outcomes.items():
        if number in poison:
            assert isinstance(outcome, InternalFault)
            assert "secret" not in outcome.message
        else:
            assert outcome == 2 * number
    failed = [batch for batch in model.batches if not batch.done]
    assert len(failed) <= len(poison) * (1 + ceil(log2(size)))


@examples
@given(
    workers=st.integers(1, 3),
    lost_at=st.dictionaries(st.integers(0, 2), st.integers(0, 4), max_size=3),
    size=st.integers(1, 20),
)
def test_a_lost_device_leaves_its_work_to_the_others(workers: int, lost_at: dict[int, int], size: int) -> None:
    model = Model(workers, lost_at=lost_at)
    plan = [Visit(Item(number, Lane(number % 2)), number / 4) for number in range(size)]
    world = play(model, plan, {"max_batch": 4, "max_queue_items": 99, "max_queue_bytes": 99})
    lost = [batch for batch in model.batches if not batch.done]
    assert world.batcher.devices == workers - len(lost)
    twice = {number for number, times in Counter(n for batch in lost for n in batch.numbers).items() if times > 1}
    for number, outcome in world.outcomes.items():
        if number in twice:
            assert isinstance(outcome, InternalFault)
        elif isinstance(outcome, Unavailable):
            assert len(lost) == workers
        else:
            assert outcome == 2 * number


@examples
@given(memory=st.integers(1, 8), sizes=st.lists(st.integers(1, 4), min_size=1, max_size=24), workers=st.integers(1, 2))
def test_out_of_memory_fails_only_what_does_not_fit_alone(memory: int, sizes: list[int], workers: int) -> None:
    model = Model(workers, memory=memory)
    plan = [Visit(Item(number, size=size), 0.0) for number, size in enumerate(sizes)]
    world = play(model, plan, {"max_batch": 8, "max_queue_items": 99, "max_queue_bytes": 99})
    for number, outcome in world.outcomes.items():
        if sizes[number] > memory:
            assert isinstance(outcome, InternalFault)
            assert outcome.reason is Reason.OUT_OF_MEMORY
        else:
            assert outcome == 2 * number
    if all(batch.done for batch in model.batches):
        assert world.batcher.batch_limit == 8
    else:
        assert world.batcher.batch_limit < 8
