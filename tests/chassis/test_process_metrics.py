"""What a process tells of itself."""

import asyncio
import time

from prometheus_client import CollectorRegistry, generate_latest

from lensmesh_chassis.process.health import HealthState
from lensmesh_chassis.process.server_info import version
from lensmesh_chassis.telemetry.process_metrics import LoopLag, describe_process
from tests.support.waiting import until


async def test_health_is_shown_as_it_is_when_asked() -> None:
    registry, health = CollectorRegistry(), HealthState()
    describe_process(registry, "fake", health, restarts=2)

    def shown() -> dict[str, float | None]:
        return {
            name: registry.get_sample_value("lensmesh_health_serving", {"service": name}) for name in ("one", "two")
        }

    assert shown() == {"one": None, "two": None}
    health.add(["one", "two"])
    assert shown() == {"one": 0, "two": 0}
    health.started()
    health.not_serving("two", "the store is away")
    assert shown() == {"one": 1, "two": 0}
    health.drain()
    assert shown() == {"one": 0, "two": 0}
    assert registry.get_sample_value("lensmesh_restarts_total") == 2
    labels = {"component": "fake", "version": version()}
    assert registry.get_sample_value("lensmesh_build_info", labels) == 1


async def test_no_series_tells_when_a_counter_was_made() -> None:
    registry = CollectorRegistry()
    describe_process(registry, "fake", HealthState(), restarts=0)
    LoopLag(registry)
    assert b"_created" not in generate_latest(registry)


async def test_tasks_are_counted_while_they_last() -> None:
    registry = CollectorRegistry()
    lag, ended = LoopLag(registry), asyncio.Event()
    lag.start()
    before = registry.get_sample_value("lensmesh_event_loop_tasks") or 0
    tasks = [asyncio.create_task(ended.wait()) for _ in range(3)]
    # In the thread of a scrape.
    assert await asyncio.to_thread(registry.get_sample_value, "lensmesh_event_loop_tasks") == before + 3
    ended.set()
    await asyncio.gather(*tasks)
    assert registry.get_sample_value("lensmesh_event_loop_tasks") == before
    await lag.stop()


async def test_a_blocked_event_loop_is_seen() -> None:
    registry = CollectorRegistry()
    lag = LoopLag(registry)

    def count(name: str, **labels: str) -> float:
        return registry.get_sample_value(f"lensmesh_event_loop_lag_seconds_{name}", labels) or 0

    lag.start()
    await until(lambda: count("count") >= 1)
    before = count("sum")
    time.sleep(0.6)  # noqa: ASYNC251 - this is what it is to see
    await until(lambda: count("sum") - before >= 0.4)
    assert count("bucket", le="+Inf") - count("bucket", le="0.25") >= 1
    await lag.stop()
    stopped = count("count")
    await asyncio.sleep(0.3)
    assert count("count") == stopped
