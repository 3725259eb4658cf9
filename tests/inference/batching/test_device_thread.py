"""The thread of a device: results and errors in order, nothing held after a batch, an end that waits."""

from __future__ import annotations

import asyncio
import functools
import gc
import subprocess
import sys
import threading
import weakref
from collections.abc import Sequence

import pytest

from lensmesh_inference.batching.batcher import Batcher, Lane
from lensmesh_inference.batching.device_thread import DeviceThread
from lensmesh_inference.batching.faults import OutOfMemory
from lensmesh_inference.options import BatchingOptions
from tests.inference.batching.asking import submit
from tests.support.waiting import until


class Batch:
    """Something to be held."""


async def test_results_and_errors_come_back_in_order() -> None:
    thread, done = DeviceThread("device"), list[int]()

    def fail() -> None:
        raise ValueError("no")

    name, first = thread.submit(lambda: threading.current_thread().name), thread.submit(lambda: done.append(1))
    failing = thread.submit(fail)
    given_up = thread.submit(lambda: done.append(2))
    given_up.cancel()
    last = thread.submit(lambda: done.append(3))
    assert await name == "device"
    await first
    with pytest.raises(ValueError, match="no"):
        await failing
    await last
    assert done == [1, 2, 3]
    thread.end()
    thread.join()


async def test_a_batch_is_let_go_of_when_it_is_done() -> None:
    thread, batch = DeviceThread("device"), Batch()
    kept = weakref.ref(batch)
    assert await thread.submit(functools.partial(isinstance, batch, Batch))
    del batch
    await until(lambda: kept() is None)
    thread.end()
    thread.join()


async def test_what_a_batch_held_that_ran_out_of_memory_is_free_before_its_halves_run() -> None:
    made, held = list[weakref.ref[Batch]](), list[bool]()

    def compute(items: Sequence[int]) -> Sequence[int]:
        held.extend(one() is not None for one in made)
        batch = Batch()
        made.append(weakref.ref(batch))
        if len(items) > 1:
            raise OutOfMemory
        return items

    batcher: Batcher[int, int] = Batcher([compute], name="model", options=BatchingOptions())
    await batcher.start()
    gc.disable()
    try:
        answers = await asyncio.gather(*(submit(batcher, one, lane=Lane.BULK, size_bytes=1) for one in range(4)))
    finally:
        gc.enable()
        await batcher.stop()
    assert [answer.value for answer in answers] == [0, 1, 2, 3]
    assert held
    assert not any(held)


async def test_the_end_comes_after_what_was_submitted() -> None:
    thread, free = DeviceThread("device"), threading.Event()
    held = thread.submit(lambda: free.wait(60))
    thread.end()
    joined = asyncio.create_task(asyncio.to_thread(thread.join))
    await asyncio.sleep(0)
    assert not joined.done()
    free.set()
    assert await held
    await joined


def test_a_process_that_ends_waits_for_a_batch() -> None:
    """Python ends a thread that comes back from C++ code later, and that code then ends the process with SIGABRT."""
    script = (
        "import asyncio, time\n"
        "from lensmesh_inference.batching.device_thread import DeviceThread\n"
        "def batch():\n"
        "    time.sleep(0.2)\n"
        "    print('computed', flush=True)\n"
        "async def main():\n"
        "    DeviceThread('idle')\n"
        "    DeviceThread('busy').submit(batch)\n"
        "asyncio.run(main())\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], timeout=60, stdout=subprocess.PIPE, text=True)
    assert (ended.returncode, ended.stdout) == (0, "computed\n")
