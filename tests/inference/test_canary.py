"""A canary learns its answer at start, tells once a model goes wrong, and tells when it is well again."""

import asyncio
import itertools

import pytest

from lensmesh_chassis.errors import InternalFault, Overloaded
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.canary import Canary


class Model:
    """Answers a word; can be broken in several ways."""

    def __init__(self) -> None:
        self.answer = "a red square"
        self.error: Exception | None = None
        self.hangs = False
        self.asked = 0
        self.asked_often = asyncio.Event()

    async def ask(self) -> str:
        self.asked += 1
        if self.asked >= 4:
            self.asked_often.set()
        if self.hangs:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error
        return self.answer


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def canary(model: Model, told: list[str]) -> Canary[str]:
    return Canary(model.ask, str.__eq__, told.append, name="m", every_s=0, timeout_s=0.05)


async def test_age_is_unset_before_the_first(canary: Canary[str]) -> None:
    assert canary.age_s is None
    assert await canary.start() == "a red square"
    assert canary.age_s is not None
    assert canary.age_s >= 0


async def test_a_model_that_fails_at_once_cannot_start(canary: Canary[str], model: Model) -> None:
    model.error = RuntimeError("no device")
    with pytest.raises(RuntimeError, match="no device"):
        await canary.start()
    assert canary.age_s is None


async def test_silence_while_all_is_well(canary: Canary[str], told: list[str]) -> None:
    await canary.start()
    await canary.check()
    assert told == []


async def test_another_answer_is_told_and_taken_back(canary: Canary[str], model: Model, told: list[str]) -> None:
    await canary.start()
    model.answer = "noise"
    await canary.check()
    model.answer = "a red square"
    await canary.check()
    await canary.check()
    assert told == ["m no longer answers as it did at start", ""]


async def test_an_error_and_a_hang_are_told(canary: Canary[str], model: Model, told: list[str]) -> None:
    await canary.start()
    passed = canary.age_s
    model.error = InternalFault(Reason.MODEL_FAILED, "broken")
    await canary.check()
    model.error, model.hangs = None, True
    await canary.check()
    assert told == ["m fails on its canary", "m has not answered its canary for 0.05 s"]
    assert passed is not None
    assert canary.age_s is not None
    assert canary.age_s > passed


async def test_a_busy_model_is_left_alone(canary: Canary[str], model: Model, told: list[str]) -> None:
    await canary.start()
    model.error = Overloaded(Reason.OVERLOADED, "full")
    await canary.check()
    assert told == []


async def test_a_model_that_answers_nonsense_at_start_cannot_start(model: Model, told: list[str]) -> None:
    canary = Canary(model.ask, lambda one, other: False, told.append, name="m", every_s=0, timeout_s=1)
    with pytest.raises(InternalFault, match="such as NaN"):
        await canary.start()


async def test_one_that_does_other_work_meanwhile_is_only_busy(model: Model, told: list[str]) -> None:
    batches = itertools.count()
    canary = Canary(
        model.ask, str.__eq__, told.append, name="m", every_s=0, timeout_s=0.05, batches=lambda: next(batches)
    )
    await canary.start()
    model.hangs = True
    await canary.check()
    assert told == []
    assert canary.passes


async def test_a_suspicion_is_followed_at_once(model: Model, told: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lensmesh_inference.canary.SUSPECT_S", 0.001)
    canary = Canary(model.ask, str.__eq__, told.append, name="m", every_s=1000, timeout_s=10)
    await canary.start()
    model.answer = "noise"
    canary.suspect()
    async with asyncio.timeout(10):
        while not told:  # noqa: ASYNC110 - what is told
            await asyncio.sleep(0.005)
    await canary.stop()
    assert told == ["m no longer answers as it did at start"]


async def test_a_failing_model_is_asked_again_soon(
    model: Model, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lensmesh_inference.canary.SUSPECT_S", 0.001)
    monkeypatch.setattr("lensmesh_inference.canary.AGAIN_S", 0.01)
    canary = Canary(model.ask, str.__eq__, told.append, name="m", every_s=1000, timeout_s=10)
    await canary.start()
    model.error = RuntimeError("no memory for the moment")
    canary.suspect()
    async with asyncio.timeout(10):
        while model.asked < 4:  # noqa: ASYNC110 - what is asked
            await asyncio.sleep(0.005)
        model.error = None
        while told[-1]:  # noqa: ASYNC110 - what is told
            await asyncio.sleep(0.005)
    await canary.stop()
    assert canary.passes


async def test_the_timer_asks_until_stopped(model: Model, told: list[str]) -> None:
    canary = Canary(model.ask, str.__eq__, told.append, name="m", every_s=0.001, timeout_s=1)
    await canary.start()
    async with asyncio.timeout(10):
        await model.asked_often.wait()
    await canary.stop()
    asked = model.asked
    await asyncio.sleep(0.01)
    assert model.asked == asked
