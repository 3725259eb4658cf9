"""The watchdog counts its own ticks: a device or an event loop that hangs is told, and the process ended, in time."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from lensmesh_inference import watchdog
from lensmesh_inference.batching.running import Running
from lensmesh_inference.images.pool import DecodePool
from lensmesh_inference.watchdog import Watchdog, Watched
from tests.support.waiting import until

TICK_S, HANG_S = 0.01, 0.1
BATCH = "a batch of 16 has been in the device"


@dataclass
class FakeEngine:
    """What a test says that it does."""

    name: str = "m"
    lost: bool = False
    batches: list[Running] = field(default_factory=list)

    def running(self) -> list[Running]:
        return self.batches


class BusyEngine(FakeEngine):
    """At another batch whenever one looks."""

    seen = 0

    def running(self) -> list[Running]:
        self.seen += 1
        return [Running(self.seen, BATCH, 0.001)]


class Found:
    """A watchdog at work, what it told, and whether it ended the process."""

    def __init__(self, engine: Watched) -> None:
        self.told: list[str] = []
        self.ended = threading.Event()
        self.dog = Watchdog(self.told.append, self.ended.set, hang_s=HANG_S, tick_s=TICK_S)
        self.dog.watch(engine)
        self.dog.start()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "LAST_S", 0.05)


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def watch(engine: FakeEngine) -> Iterator[Callable[[], Found]]:
    made: list[Found] = []

    def start() -> Found:
        made.append(Found(engine))
        return made[-1]

    yield start
    for one in made:
        one.dog.stop()


async def test_a_batch_that_never_ends_is_told_and_ends_the_process(
    engine: FakeEngine, watch: Callable[[], Found], caplog: pytest.LogCaptureFixture
) -> None:
    def stuck_here() -> None:
        freed.wait()

    freed = threading.Event()
    hung = threading.Thread(target=stuck_here)
    hung.start()
    engine.batches = [Running(7, BATCH, 0.01, hung.ident)]
    found = watch()
    await until(found.ended.is_set)
    freed.set()
    hung.join()
    assert len(found.told) == 1
    assert found.told[0].startswith("m hangs: a batch of 16 has been in the device for 0.1")
    assert "0.01 s predicted" in found.told[0]
    # The log, not health, shows where it hangs.
    assert "\n" not in found.told[0]
    await until(lambda: any("stuck_here" in record.getMessage() for record in caplog.records))
    assert any(record.levelno == logging.CRITICAL for record in caplog.records)


async def test_batches_that_come_and_go_are_no_hang() -> None:
    engine = BusyEngine()
    found = Found(engine)
    await until(lambda: engine.seen > 3 * HANG_S / TICK_S)
    found.dog.stop()
    assert found.told == []


async def test_what_was_predicted_long_may_take_long(engine: FakeEngine, watch: Callable[[], Found]) -> None:
    engine.batches = [Running(1, BATCH, 1000.0)]
    found = watch()
    await asyncio.sleep(4 * HANG_S)
    assert found.told == []
    engine.batches = [Running(2, BATCH, HANG_S / 100)]
    await until(found.ended.is_set)


async def test_a_batch_unlike_any_before_has_a_bound_of_its_own(
    engine: FakeEngine, watch: Callable[[], Found], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "UNKNOWN", 2.0)
    engine.batches = [Running(1, BATCH, None)]
    found = watch()
    await until(found.ended.is_set)
    assert "nothing was predicted" in found.told[0]


async def test_the_first_batch_of_its_kind_may_take_longer(engine: FakeEngine, watch: Callable[[], Found]) -> None:
    engine.batches = [Running(1, BATCH, 0.01, first=True)]
    found = watch()
    await until(found.ended.is_set)
    assert float(found.told[0].partition("in the device for ")[2].partition(" s")[0]) > watchdog.FIRST * HANG_S


async def test_a_thread_that_prepares_without_end_is_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "UNKNOWN", 2.0)
    freed = threading.Event()
    pool = DecodePool(2)
    found = Found(pool)
    # Those that come and go are no hang, however many there are.
    began = time.monotonic()
    while time.monotonic() < began + 4 * HANG_S:
        await pool.run(time.sleep, HANG_S / 20)
    assert found.told == []
    hung = asyncio.create_task(pool.run(freed.wait))
    await until(found.ended.is_set)
    assert found.told[0].startswith("decode hangs: an item has been in preparation for 0.2")
    freed.set()
    await hung
    assert list(pool.running()) == []
    await pool.close()


async def test_an_engine_without_devices_ends_the_process(engine: FakeEngine, watch: Callable[[], Found]) -> None:
    found = watch()
    engine.lost = True
    await until(found.ended.is_set)
    assert found.told == ["m has no device left"]


async def test_a_blocked_event_loop_ends_the_process(engine: FakeEngine, watch: Callable[[], Found]) -> None:
    found = watch()
    # The very thing that must not happen, for as long as it takes.
    time.sleep(0.02)  # noqa: ASYNC251
    assert not found.ended.is_set()
    assert found.ended.wait(30)
    await until(lambda: found.told)
    assert found.told[0].startswith("the event loop has answered nothing for 0.6")


def test_a_closed_loop_ends_the_watch(engine: FakeEngine) -> None:
    async def start() -> Found:
        return Found(engine)

    before = {thread.ident for thread in threading.enumerate()}
    found = asyncio.run(start())
    for thread in threading.enumerate():
        if thread.ident not in before:
            thread.join(30)
            assert not thread.is_alive()
    assert not found.ended.is_set()
