"""One computation for equal contents: who starts it, who may leave, and what each caller is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lensmesh_chassis.errors import DeadlineExceeded, InternalFault, InvalidInput, LensmeshError
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.batching.lanes import Lane
from lensmesh_inference.cache.single_flight import Caller, SingleFlight

BULK, INTERACTIVE = Lane.BULK, Lane.INTERACTIVE
LATE = DeadlineExceeded(Reason.DEADLINE_EXCEEDED, "too late")
BROKEN = InternalFault(Reason.MODEL_FAILED, "the model failed")
BAD = InvalidInput(Reason.IMAGE_UNDECODABLE, "images[3] is bad", field="images[3]")


class Computations:
    """What is computed, each until the test says how it ends."""

    def __init__(self) -> None:
        self.begun: list[asyncio.Future[str]] = []
        self.cancelled = 0

    async def __call__(self) -> str:
        end: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.begun.append(end)
        try:
            return await end
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


@dataclass(frozen=True)
class SharedResult:
    """A result, and whether the caller's own computation made it."""

    value: str
    own: bool


class Asking(Caller[str]):
    """A caller whose computation is a task, and who waits for its result."""

    def __init__(
        self,
        flights: SingleFlight[str],
        key: str,
        lane: Lane,
        deadline: float | None,
        compute: Callable[[], Coroutine[Any, Any, str]],
    ) -> None:
        super().__init__(lane, deadline)
        self.flights, self.key, self.compute = flights, key, compute
        self.result: asyncio.Future[SharedResult] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[str] | None = None

    async def ask(self) -> SharedResult:
        try:
            self.try_again(alone=False)
            return await self.result
        finally:
            if not self.heard:
                self.flights.leave(self)

    heard = False

    def hear(self, value: str, *, own: bool) -> None:
        self.heard = True
        if not self.result.done():
            self.result.set_result(SharedResult(value, own))

    def fail(self, error: Exception) -> None:
        self.heard = True
        if not self.result.done():
            self.result.set_exception(error)

    def try_again(self, *, alone: bool) -> None:
        if not alone and not self.flights.join(self.key, self):
            self.flights.waits(self)
            return
        self.task = asyncio.create_task(self.compute())
        self.task.add_done_callback(self._ended)

    def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()

    def _ended(self, task: asyncio.Task[str]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        assert error is None or isinstance(error, Exception)
        if self.flight is None:
            self.hear(task.result(), own=True) if error is None else self.fail(error)
        elif error is None:
            self.flights.succeeded(self, task.result())
        else:
            self.flights.failed(self, error)


class Callers:
    """Callers of one key, and what their computations are."""

    def __init__(self) -> None:
        self.flights: SingleFlight[str] = SingleFlight()
        self.computations = Computations()

    def ask(
        self,
        lane: Lane = BULK,
        deadline: float | None = None,
        compute: Callable[[], Coroutine[Any, Any, str]] | None = None,
        key: str = "key",
    ) -> asyncio.Task[SharedResult]:
        asking = Asking(self.flights, key, lane, deadline, compute or self.computations)
        return asyncio.create_task(asking.ask())

    @property
    def begun(self) -> list[asyncio.Future[str]]:
        return self.computations.begun


async def settle() -> None:
    """Let everything that can go on go on."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture
def callers() -> Callers:
    return Callers()


async def test_equal_contents_are_computed_once(callers: Callers) -> None:
    asked = [callers.ask() for _ in range(5)]
    await settle()
    assert len(callers.begun) == 1
    callers.begun[0].set_result("vector")
    assert [await one for one in asked] == [SharedResult("vector", True)] + [SharedResult("vector", False)] * 4
    assert len(callers.flights) == 0


async def test_what_comes_afterwards_is_computed_anew(callers: Callers) -> None:
    """Keeping results is the cache's business."""
    for result in ("first", "second"):
        asked = callers.ask()
        await settle()
        callers.begun[-1].set_result(result)
        assert await asked == SharedResult(result, True)


@settings(max_examples=60, deadline=None)
@given(leaving=st.lists(st.integers(0, 4), unique=True, max_size=5), when=st.integers(0, 6))
def test_whoever_leaves_whenever_the_rest_get_their_answer(leaving: list[int], when: int) -> None:
    """Callers leave so many steps of the event loop after they came, the first one included."""

    async def scenario() -> None:
        callers = Callers()
        asked = [callers.ask() for _ in range(5)]
        for _ in range(when):
            await asyncio.sleep(0)
        for number in leaving:
            asked[number].cancel()
        await settle()
        if len(leaving) == 5:
            assert callers.computations.cancelled == len(callers.begun)
        else:
            open_ones = [end for end in callers.begun if not end.done()]
            assert len(open_ones) == 1
            open_ones[0].set_result("vector")
        results = await asyncio.gather(*asked, return_exceptions=True)
        for number, result in enumerate(results):
            if number in leaving:
                assert isinstance(result, asyncio.CancelledError)
            else:
                assert isinstance(result, SharedResult)
                assert result.value == "vector"
        assert len(callers.flights) == 0

    asyncio.run(scenario())


async def test_a_computation_that_nobody_waits_for_ends_and_the_next_caller_starts_another(callers: Callers) -> None:
    first = callers.ask()
    await settle()
    first.cancel()
    # Before the computation that is being cancelled has come to its end.
    second = callers.ask()
    await settle()
    assert callers.computations.cancelled == 1
    callers.begun[1].set_result("vector")
    assert await second == SharedResult("vector", True)
    assert len(callers.flights) == 0


async def test_an_interactive_caller_overtakes_a_bulk_one(callers: Callers) -> None:
    bulk = callers.ask(BULK)
    await settle()
    interactive = callers.ask(INTERACTIVE)
    another = callers.ask(INTERACTIVE)
    await settle()
    assert len(callers.begun) == 2
    callers.begun[1].set_result("vector")
    assert list(await asyncio.gather(bulk, interactive, another)) == [
        SharedResult("vector", False),
        SharedResult("vector", True),
        SharedResult("vector", False),
    ]
    await settle()
    assert callers.computations.cancelled == 1


async def test_what_is_nearly_done_in_bulk_answers_the_interactive_caller(callers: Callers) -> None:
    bulk = callers.ask(BULK)
    await settle()
    interactive = callers.ask(INTERACTIVE)
    await settle()
    callers.begun[0].set_result("vector")
    assert list(await asyncio.gather(bulk, interactive)) == [
        SharedResult("vector", True),
        SharedResult("vector", False),
    ]
    await settle()
    assert callers.computations.cancelled == 1


async def test_a_bulk_caller_waits_for_an_interactive_one(callers: Callers) -> None:
    interactive, bulk = callers.ask(INTERACTIVE), callers.ask(BULK)
    await settle()
    assert len(callers.begun) == 1
    callers.begun[0].set_result("vector")
    assert list(await asyncio.gather(interactive, bulk)) == [
        SharedResult("vector", True),
        SharedResult("vector", False),
    ]


async def test_the_missed_deadline_of_one_is_not_that_of_the_others(callers: Callers) -> None:
    asked = [callers.ask() for _ in range(3)]
    await settle()
    callers.begun[0].set_exception(LATE)
    await settle()
    assert len(callers.begun) == 2, "the two others share one that is started anew"
    callers.begun[1].set_result("vector")
    first, second, third = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(first, DeadlineExceeded)
    assert [second, third] == [SharedResult("vector", True), SharedResult("vector", False)]


async def test_a_callers_own_deadline_ends_its_waiting(callers: Callers) -> None:
    patient = callers.ask()
    await settle()
    hurried = callers.ask(deadline=asyncio.get_running_loop().time() + 0.01)
    with pytest.raises(DeadlineExceeded, match="another caller"):
        await hurried
    callers.begun[0].set_result("vector")
    assert await patient == SharedResult("vector", True)


async def test_the_one_that_computes_leaves_its_deadline_to_the_queue(callers: Callers) -> None:
    """What is in the device when its deadline passes is still answered."""
    asked = callers.ask(deadline=asyncio.get_running_loop().time() - 1)
    await settle()
    callers.begun[0].set_result("vector")
    assert await asked == SharedResult("vector", True)


async def test_a_bad_image_is_named_as_in_each_callers_own_request(callers: Callers) -> None:
    async def own() -> str:
        raise InvalidInput(Reason.IMAGE_UNDECODABLE, "items[0] is bad", field="items[0]")

    first = callers.ask()
    await settle()
    second = callers.ask(compute=own)
    await settle()
    callers.begun[0].set_exception(BAD)
    errors = await asyncio.gather(first, second, return_exceptions=True)
    assert [str(error) for error in errors] == ["images[3] is bad", "items[0] is bad"]


async def test_what_the_model_fails_on_fails_for_all_and_is_tried_again_later(callers: Callers) -> None:
    asked = [callers.ask() for _ in range(3)]
    await settle()
    callers.begun[0].set_exception(BROKEN)
    errors = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(error) for error in errors] == [InternalFault] * 3
    assert len(callers.begun) == 1
    again = callers.ask()
    await settle()
    callers.begun[1].set_result("vector")
    assert await again == SharedResult("vector", True)


async def test_while_two_compute_the_failure_of_one_is_told_to_its_caller_alone(callers: Callers) -> None:
    bulk = callers.ask(BULK)
    await settle()
    interactive = callers.ask(INTERACTIVE)
    await settle()
    callers.begun[1].set_exception(LATE)
    with pytest.raises(DeadlineExceeded):
        await interactive
    callers.begun[0].set_result("vector")
    assert await bulk == SharedResult("vector", True)


async def test_other_contents_do_not_wait(callers: Callers) -> None:
    one = callers.ask()
    other = callers.ask(key="other")
    await settle()
    assert len(callers.begun) == 2
    callers.begun[1].set_result("its own")
    assert await other == SharedResult("its own", True)
    callers.begun[0].set_result("vector")
    assert await one == SharedResult("vector", True)


@settings(max_examples=100, deadline=None)
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("ask"), st.sampled_from(list(Lane))),
            st.tuples(st.sampled_from(["leave", "finish", "late", "broken", "step"]), st.integers(0, 9)),
        ),
        max_size=25,
    )
)
def test_nobody_is_forgotten_and_nothing_is_left_over(steps: list[tuple[str, Any]]) -> None:
    """Any order of callers that come and leave, and computations that end in any way."""

    async def scenario() -> None:
        callers = Callers()
        asked: list[asyncio.Task[SharedResult]] = []
        for step, what in steps:
            running = [end for end in callers.begun if not end.done()]
            if step == "ask":
                asked.append(callers.ask(what))
            elif step == "leave" and asked:
                asked[what % len(asked)].cancel()
            elif step in ("finish", "late", "broken") and running:
                end = running[what % len(running)]
                if step == "finish":
                    end.set_result("vector")
                else:
                    end.set_exception(LATE if step == "late" else BROKEN)
            elif step == "step":
                await asyncio.sleep(0)
        await settle()
        waiting = [one for one in asked if not one.done()]
        # Two at most, and only while an interactive one overtakes a bulk one.
        running = [end for end in callers.begun if not end.done()]
        assert (len(running) > 0) == (len(waiting) > 0)
        assert len(running) <= 2
        for end in running:
            end.set_result("vector")
        for result in await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 60):
            told = isinstance(result, asyncio.CancelledError | LensmeshError)
            assert told or (isinstance(result, SharedResult) and result.value == "vector")
        await settle()
        assert len(callers.flights) == 0
        assert all(end.done() for end in callers.begun)

    asyncio.run(scenario())
