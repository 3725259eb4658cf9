"""A client after a fork, in two event loops, after its end, and under Ctrl-C."""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from lensmesh_client import Client, SyncClient
from lensmesh_client.errors import LensmeshError, PreconditionFailed, Reason
from tests.client.fake_router import FakeRouter
from tests.support.waiting import until

FORK = """
import os, sys, warnings
warnings.simplefilter("ignore")
from lensmesh_client import SyncClient
from lensmesh_client.errors import LensmeshError
def ask(client):
    try:
        return str(client.embed(texts=["a"], timeout_s=10).vectors.shape)
    except LensmeshError as error:
        return str(error.reason)
client = SyncClient(sys.argv[1])
if sys.argv[2] == "used":
    print(ask(client), flush=True)
if (child := os.fork()) == 0:
    print(ask(client), flush=True)
    with SyncClient(sys.argv[1]) as other:
        print(ask(other), flush=True)
    client.close()
    os._exit(0)
print(os.waitpid(child, 0)[1], flush=True)
client.close()
"""


@pytest.mark.parametrize(
    ("mode", "lines"),
    [("made", ["(1, 4)", "(1, 4)", "0"]), ("used", ["(1, 4)", "CLIENT_UNUSABLE", "CLIENT_UNUSABLE", "0"])],
)
async def test_after_a_fork_it_works_or_says_so(router: FakeRouter, mode: str, lines: list[str]) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", FORK, router.target, mode, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert out.decode().split("\n")[:-1] == lines


def test_two_event_loops(threaded_router: FakeRouter) -> None:
    client = Client(threaded_router.target)
    first = asyncio.new_event_loop()
    first.run_until_complete(client.status())

    async def second() -> None:
        with pytest.raises(PreconditionFailed, match="another event loop") as caught:
            await client.status()
        assert caught.value.reason is Reason.CLIENT_UNUSABLE

    asyncio.run(second())
    first.run_until_complete(client.close())
    first.close()

    async def third() -> None:
        async with client:
            assert (await client.status()).server.instance == "fake"

    asyncio.run(third())


def test_a_closed_synchronous_client(threaded_router: FakeRouter) -> None:
    client = SyncClient(threaded_router.target)
    client.status()
    client.close()
    for call in (client.status, lambda: client.embed(texts=["a"]), lambda: list(client.ingest_many([b"a"]))):
        with pytest.raises(LensmeshError) as caught:
            call()
        assert caught.value.reason is Reason.CLIENT_UNUSABLE


CTRL_C = """
import os, signal, sys, threading, time
from lensmesh_client import SyncClient
def endless():
    for index in range(20):
        yield b"image %d" % index
    # All of them answered: what waits now is the next result.
    threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    time.sleep(3600)
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    with SyncClient(sys.argv[1]) as client:
        for result in client.ingest_many(endless()):
            pass
except BaseException as error:
    print(type(error).__name__, flush=True)
"""


async def test_ctrl_c_is_keyboard_interrupt_and_the_process_ends(router: FakeRouter) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CTRL_C, router.target, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert (out, process.returncode) == (b"KeyboardInterrupt\n", 0), err.decode()


async def test_closing_ends_what_runs_in_other_tasks(router: FakeRouter) -> None:
    router.hold = asyncio.Event()
    client = Client(router.target)

    async def ingest() -> None:
        async for _ in client.ingest_many([b"a"]):
            pass

    running = [asyncio.create_task(client.search("a cat")), asyncio.create_task(ingest())]
    await until(lambda: len(router.calls) == 1 and router.in_flight == 1)
    await client.close()
    for error in await asyncio.wait_for(asyncio.gather(*running, return_exceptions=True), 30):
        assert isinstance(error, PreconditionFailed), error
        assert error.reason is Reason.CLIENT_UNUSABLE
    # Nothing was sent again over a channel that nobody would close.
    assert router.streams == 1


def test_closing_ends_what_other_threads_wait_for(threaded_router: FakeRouter) -> None:
    threaded_router.hold = asyncio.Event()
    client = SyncClient(threaded_router.target)
    ended: list[LensmeshError] = []

    def run(work: Callable[[], object]) -> None:
        try:
            work()
        except LensmeshError as error:
            ended.append(error)

    work: list[Callable[[], object]] = [lambda: client.search("a cat"), lambda: list(client.ingest_many([b"a"]))]
    threads = [threading.Thread(target=run, args=(one,), daemon=True) for one in work]
    for thread in threads:
        thread.start()
    while not (threaded_router.calls and threaded_router.in_flight):
        time.sleep(0.01)
    client.close()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert [error.reason for error in ended] == [Reason.CLIENT_UNUSABLE] * 2
