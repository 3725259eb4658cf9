"""Jobs as callers see them: started, told, listed, watched, cancelled; and what is refused."""

import asyncio

import grpc
import pytest

from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.reasons import Reason
from tests.search.conftest import Serve
from tests.search.jobs import EVERYTHING, cancel, ended, filled, get, listed, start, watched
from tests.search.support import Stub, all_of, create, item, none_of, refused, upsert, where
from tests.search.support import listed as items

INVALID, MISSING = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
SUCCEEDED, CANCELLED = search_pb2.JOB_STATE_SUCCEEDED, search_pb2.JOB_STATE_CANCELLED


async def test_items_are_removed_by_a_job(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search_svc.jobs.delete_items.BATCH", 7)
    await filled(stub, 60)
    chosen = where("even", equals=True)
    job = await start(stub, "even-ones", chosen)
    assert (job.id, job.kind, job.collection) == ("even-ones", search_pb2.JOB_KIND_DELETE_ITEMS, "pictures")
    assert job.delete_items == search_pb2.StartDeleteItemsRequest(collection="pictures", filter=chosen)
    done = await ended(stub, job.id)
    assert (done.state, done.done_count, done.total_count) == (SUCCEEDED, 30, 30)
    assert done.delete_items_result.deleted_count == 30
    assert done.delete_items == job.delete_items
    assert done.create_time.ToDatetime() <= done.start_time.ToDatetime() <= done.end_time.ToDatetime()
    assert (done.expire_time.ToDatetime() - done.end_time.ToDatetime()).days in (6, 7)
    assert (done.attempt_count, done.message, done.HasField("time_left_ms")) == (1, "", False)
    assert await items(stub) == [f"i{i:04}" for i in range(1, 60, 2)] or len(await items(stub)) == 30


async def test_what_comes_after_the_start_stays(serve: Serve) -> None:
    # Nobody works on jobs here until the second one does.
    async with serve(job_parallel=0) as (stub, _):
        await filled(stub, 3)
        job = await start(stub)
        await upsert(stub, item("late"))
    async with serve() as (stub, _):
        assert (await ended(stub, job.id)).delete_items_result.deleted_count == 3
        assert await items(stub) == ["late"]


async def test_a_start_that_is_sent_again_is_the_same_job(serve: Serve) -> None:
    async with serve(job_parallel=0) as (stub, _):
        await filled(stub, 1)
        by_name = [await start(stub, "mine") for _ in range(2)]
        assert by_name[0] == by_name[1]
        request = search_pb2.StartDeleteItemsRequest(collection="pictures", filter=EVERYTHING)
        metadata = (("x-request-id", "one-call"),)
        by_call = [(await stub.StartDeleteItems(request, metadata=metadata)).job.id for _ in range(2)]
        assert by_call[0] == by_call[1]
        assert len({by_name[0].id, by_call[0], (await start(stub)).id, (await start(stub)).id}) == 4
        other = start(stub, "mine", where("even", equals=True))
        await refused(other, grpc.StatusCode.ALREADY_EXISTS, Reason.JOB_EXISTS, "job_id")


async def test_bad_starts_are_refused(stub: Stub) -> None:
    await create(stub)
    for job_id in ("a b", "-a", "ä", "a" * 64, "a\n"):
        await refused(start(stub, job_id), INVALID, Reason.JOB_INVALID, "job_id")
    missing = stub.StartDeleteItems(search_pb2.StartDeleteItemsRequest(collection="pictures"))
    await refused(missing, INVALID, Reason.QUERY_INVALID, "filter")
    await refused(start(stub, chosen=search_pb2.Filter()), INVALID, Reason.FILTER_INVALID, "filter")
    long = where("a", one_of=["x" * 1000] * 1100)
    await refused(start(stub, chosen=long), INVALID, Reason.JOB_INVALID, "filter")
    await refused(start(stub, collection=""), INVALID, Reason.COLLECTION_INVALID, "collection")
    for name in ("none", "No Name"):
        await refused(start(stub, collection=name), MISSING, Reason.COLLECTION_NOT_FOUND)
    words = all_of(where("$caption", matches="a"), none_of(where("title", matches="a")))
    field = "filter.all.filters[1].not.condition.matches"
    await refused(start(stub, chosen=words), grpc.StatusCode.FAILED_PRECONDITION, Reason.FIELD_NOT_INDEXED, field)
    assert await listed(stub) == []


async def test_jobs_that_nobody_knows(stub: Stub) -> None:
    for job_id in ("none", "", "no\0id", "x" * 500):
        for call in (get(stub, job_id), cancel(stub, job_id), watched(stub, job_id)):
            await refused(call, MISSING, Reason.JOB_NOT_FOUND, "id")


async def test_a_name_that_no_collection_can_have_has_no_jobs(stub: Stub) -> None:
    for name in ("no\0name", "No Name", "x" * 500):
        assert await listed(stub, collection=name) == []


async def test_kinds_and_states_that_nobody_knows(stub: Stub) -> None:
    kind = search_pb2.ListJobsRequest(kind=99)  # type: ignore[arg-type]  # of a newer client
    await refused(stub.ListJobs(kind), INVALID, Reason.OPTION_INVALID, "kind")
    states = search_pb2.ListJobsRequest(states=[1, 99])  # type: ignore[list-item]  # the same
    await refused(stub.ListJobs(states), INVALID, Reason.OPTION_INVALID, "states[1]")
    await refused(stub.ListJobs(search_pb2.ListJobsRequest(page_size=1001)), INVALID, Reason.LIMIT_OUT_OF_RANGE)


async def test_lists_by_pages(serve: Serve) -> None:
    async with serve(job_parallel=0) as (stub, _):
        await create(stub)
        for job_id in "abcde":
            await start(stub, job_id)
        await cancel(stub, "b")
        assert await listed(stub, page_size=2) == ["e", "d", "c", "b", "a"]
        assert await listed(stub, states=[CANCELLED]) == ["b"]
        assert await listed(stub, kind=search_pb2.JOB_KIND_DELETE_ITEMS, collection="pictures", page_size=4) == [
            *"edcba"
        ]
        assert await listed(stub, collection="others") == []
        page = await stub.ListJobs(search_pb2.ListJobsRequest(page_size=2))
        assert not page.jobs[0].HasField("delete_items")
        other = search_pb2.ListJobsRequest(collection="pictures", page_token=page.next_page_token)
        await refused(stub.ListJobs(other), INVALID, Reason.PAGE_TOKEN_INVALID, "page_token")


async def test_cancelling_twice_is_no_error(serve: Serve) -> None:
    async with serve(job_parallel=0) as (stub, _):
        await filled(stub, 2)
        await start(stub, "one")
        first = await cancel(stub, "one")
        assert (first.state, first.cancel_requested) == (CANCELLED, True)
        assert await cancel(stub, "one") == first
        assert len(await items(stub)) == 2
    async with serve() as (stub, _):
        done = await ended(stub, (await start(stub, "two")).id)
        assert (await cancel(stub, "two")).state == done.state == SUCCEEDED


async def test_a_watch_tells_changes_and_ends_with_the_job(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search_svc.job_servicer._LOOK_S", 0.02)
    async with serve(job_parallel=0) as (stub, server):
        await filled(stub, 2)
        await start(stub, "one")
        watch = asyncio.ensure_future(watched(stub, "one"))
        await asyncio.sleep(0.2)
        await cancel(stub, "one")
        told = await watch
        assert [job.state for job in told] == [search_pb2.JOB_STATE_PENDING, CANCELLED]
        # After its end it is told once.
        assert await watched(stub, "one") == told[-1:]
        await start(stub, "two")
        cut = asyncio.ensure_future(watched(stub, "two"))
        await asyncio.sleep(0.2)
        server.runtime.draining.set()
        await refused(cut, grpc.StatusCode.UNAVAILABLE, Reason.DRAINING)


async def test_a_collection_that_is_removed_ends_its_jobs(serve: Serve) -> None:
    async with serve(job_parallel=0) as (stub, _):
        for job_id in ("gone", "another"):
            await filled(stub, 2)
            await start(stub, job_id)
            await stub.DeleteCollection(search_pb2.DeleteCollectionRequest(name="pictures"))
        # One of its name is another one.
        await filled(stub, 2)
    async with serve() as (stub, _):
        for job_id in ("gone", "another"):
            job = await ended(stub, job_id)
            assert job.state == search_pb2.JOB_STATE_FAILED
            assert Reason.COLLECTION_NOT_FOUND in str(job.error.details[0].value)
        assert len(await items(stub)) == 2
