"""Work in a daemon thread: its result, its error, and no waiting for it once nobody does."""

import asyncio
import subprocess
import sys
import threading

import pytest

from lensmesh_inference.background import in_daemon_thread


async def test_result_and_error() -> None:
    assert await in_daemon_thread(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await in_daemon_thread(divmod, 7, 0)


async def test_cancelling_leaves_it_behind() -> None:
    hold, begun = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        hold.wait(30)

    task = asyncio.create_task(in_daemon_thread(work))
    await asyncio.to_thread(begun.wait, 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    hold.set()


def test_a_process_ends_without_it() -> None:
    script = (
        "import asyncio, threading\n"
        "from lensmesh_inference.background import in_daemon_thread\n"
        "async def main():\n"
        "    task = asyncio.create_task(in_daemon_thread(threading.Event().wait))\n"
        "    await asyncio.sleep(0.01)\n"
        "    task.cancel()\n"
        "asyncio.run(main())\n"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=60).returncode == 0
