"""A caller that goes several ways in turn, a few calls each, so that a busy moment favours none.

python -m bench.workers.turns. It measures the time of a call, and the processor time that each server spends on it.
"""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import AsyncExitStack
from typing import Any

from bench.processor import process_s
from bench.worker import Asked, serve
from bench.workers.steps import Step, Steps
from lensmesh_cli.load.figures import percentile

BLOCK = 20
# A plan is chosen for good after some executions, and the first calls open what the later ones use.
FIRST = 30


class Turns:
    """The handlers. `ways` maps names to lists of steps; `pids` names the servers whose time counts."""

    def __init__(self) -> None:
        self._salt = 0

    def turns(self, asked: Asked) -> dict[str, dict[str, float]]:
        """Measure each way: the p50 in milliseconds, and the processor milliseconds a call of each of its `pids`."""
        return asyncio.run(self._turns(asked))

    def callers(self, asked: Asked) -> dict[str, float]:
        """Measure calls a second of one way by `count` callers at a time."""
        return {"rate": asyncio.run(self._callers(asked))}

    async def _turns(self, asked: Asked) -> dict[str, dict[str, float]]:
        took_ms: dict[str, list[float]] = {name: [] for name in asked["ways"]}
        spent: dict[str, dict[str, float]] = {
            name: dict.fromkeys(asked["pids"].get(name, ()), 0.0) for name in asked["ways"]
        }
        async with AsyncExitStack() as stack:
            steps = self._steps(stack)
            calls = {name: await steps.way(way) for name, way in asked["ways"].items()}
            for call in calls.values():
                await _repeat(call, FIRST)
            end = time.monotonic() + asked["seconds"]
            order = list(calls)
            while time.monotonic() < end:
                random.shuffle(order)
                for name in order:
                    pids = asked["pids"].get(name, {})
                    before = {server: process_s(pid) for server, pid in pids.items()}
                    took_ms[name] += await _repeat(calls[name], BLOCK)
                    for server, pid in pids.items():
                        spent[name][server] += process_s(pid) - before[server]
        return {
            name: {
                "p50_ms": percentile(took, 0.5),
                **{f"{server}_cpu_ms": 1e3 * seconds / len(took) for server, seconds in spent[name].items()},
            }
            for name, took in took_ms.items()
        }

    async def _callers(self, asked: Asked) -> float:
        async with AsyncExitStack() as stack:
            steps = self._steps(stack)
            calls = [await steps.way(asked["way"]) for _ in range(asked["count"])]
            await asyncio.gather(*(_repeat(call, FIRST) for call in calls))
            began = time.monotonic()
            end, done = began + asked["seconds"], 0

            async def caller(call: Step) -> None:
                nonlocal done
                while time.monotonic() < end:
                    await call()
                    done += 1

            async with asyncio.TaskGroup() as running:
                for call in calls:
                    running.create_task(caller(call))
            return done / (time.monotonic() - began)

    def _steps(self, stack: AsyncExitStack) -> Steps:
        # Other texts each time: what a service remembers helps it nothing.
        self._salt += 1
        return Steps(stack, self._salt * 10_007)


async def _repeat(call: Step, count: int) -> list[float]:
    """Return the milliseconds of as many calls."""
    took = []
    for _ in range(count):
        began = time.perf_counter()
        await call()
        took.append(1e3 * (time.perf_counter() - began))
    return took


def main() -> None:
    """Serve one caller."""
    turns = Turns()
    answers: dict[str, Any] = {"turns": turns.turns, "callers": turns.callers}
    serve(answers)


if __name__ == "__main__":
    main()
