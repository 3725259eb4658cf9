"""`lensmesh jobs`: started, listed, watched and cancelled; what a failed job ends the command with."""

import asyncio
import json
import threading
from collections.abc import Iterator

import pytest
from rich.console import Console

from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.rpc.status import to_status
from lensmesh_cli.job_views import JobBar, duration, table
from lensmesh_client import Item, Job, JobKind, JobState, NotFound, Reason, SyncClient
from tests.cli.in_process import User, lensmesh_here
from tests.router.fakes import SPACE, FakeSearch, Host


def test_a_job_from_its_start_to_its_end(user: User) -> None:
    items = [Item(f"{year}", metadata={"year": year}) for year in range(1990, 2010)]
    with SyncClient(user.target) as client:
        client.collections.create("years")
        client.items.upsert(items, collection="years")
    refused = user.run("jobs", "delete", "-f", "year<2000", "--collection", "years")
    assert (refused.code, "--yes" in refused.err) == (1, True)
    arguments = ["jobs", "delete", "-f", "year<2000", "--collection", "years", "--yes", "--id", "old-years"]
    started = user.run(*arguments)
    assert started.code == 0
    assert started.out.startswith("old-years: ")
    assert "lensmesh jobs watch old-years" in started.err
    # The same start again is the same job.
    watched = user.run(*arguments, "--watch")
    assert (watched.code, watched.out) == (0, "old-years: succeeded, deleted_count 10\n")
    assert "delete items: succeeded, 10 of 10" in watched.err
    job = json.loads(user.run("jobs", "watch", "old-years", "--json").out)
    assert (job["state"], job["result"], job["kind"]) == ("succeeded", {"deleted_count": 10}, "delete_items")
    assert job["error"] is None
    rebuilt = user.run("jobs", "rebuild", "--collection", "years", "--m", "24", "--watch", "--json")
    assert json.loads(rebuilt.out)["result"]["built_spaces"] == ["image"]
    listed = json.loads(user.run("jobs", "--collection", "years", "--state", "succeeded", "--json").out)["jobs"]
    assert [each["kind"] for each in listed] == ["rebuild_indexes", "delete_items"]
    shown = user.run("jobs", "--collection", "years", "-n", "1").out
    assert "rebuild indexes" in shown
    assert "old-years" not in shown
    assert user.run("jobs", "cancel", "old-years").out == "old-years: succeeded\n"
    assert "no jobs" in user.run("jobs", "--collection", "nobodys").err
    missing = user.run("jobs", "watch", "none")
    assert (missing.code, "JOB_NOT_FOUND" in missing.err) == (1, True)


@pytest.fixture
def search() -> Iterator[tuple[FakeSearch, str]]:
    """A fake of the service in another thread, and its address."""
    fake, ready = FakeSearch(), threading.Event()
    fake.make("c", ("image", SPACE))
    host, loop, stop = Host(fake), asyncio.new_event_loop(), asyncio.Event()

    async def serve() -> None:
        await host.start()
        ready.set()
        await stop.wait()
        await host.kill()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    ready.wait(30)
    yield fake, host.address
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.close()


def test_a_job_that_failed_or_was_cancelled_is_code_1(search: tuple[FakeSearch, str]) -> None:
    fake, target = search
    error = to_status(NotFound(Reason.COLLECTION_NOT_FOUND, "there is no collection c"))
    fake.jobs = {
        "broken": search_pb2.Job(id="broken", state=search_pb2.JOB_STATE_FAILED, error=error),
        "ended\x1b[2J": search_pb2.Job(id="ended\x1b[2J", state=search_pb2.JOB_STATE_CANCELLED),
    }
    failed = lensmesh_here("jobs", "watch", "broken", "--target", target)
    assert (failed.code, failed.out) == (1, "broken: failed\n")
    assert "there is no collection c (COLLECTION_NOT_FOUND)" in failed.err
    cancelled = lensmesh_here("jobs", "watch", "ended\x1b[2J", "--target", target)
    assert (cancelled.code, cancelled.out) == (1, "ended\\x1b[2J: cancelled\n")
    listed = lensmesh_here("jobs", "--target", target)
    assert listed.code == 0
    assert "\x1b" not in listed.out
    assert "another kind" in listed.out
    assert "broken: there is no collection c\n" in listed.out


def test_views() -> None:
    running = Job(
        "one",
        JobKind.DELETE_ITEMS,
        "photos",
        JobState.RUNNING,
        done_count=1500,
        total_count=6000,
        units_per_second=250.4,
        time_left_s=3671,
        message="waits: away",
        cancel_requested=True,
    )
    assert running.share == 0.25
    console = Console(width=120, force_terminal=True, color_system=None, record=True)
    with JobBar(console) as bar:
        bar.show(running)
    console.print(table([running]))
    shown = console.export_text()
    for told in ("delete items: cancelling", "1,500 of 6,000", "250/s", "about 1 h 1 min left", "waits: away"):
        assert told in shown
    assert [duration(seconds) for seconds in (0.4, 59, 61, 7300)] == ["0 s", "59 s", "1 min 1 s", "2 h 1 min"]
