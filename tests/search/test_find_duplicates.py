"""FindDuplicates and ReadDuplicates: the same groups from each store, and what is refused."""

import grpc
import pytest

from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import from_status
from search_svc.duplicates import items as items_module
from search_svc.jobs import find_duplicates
from tests.search.conftest import Serve
from tests.search.duplicates import find, hashed, ids, read
from tests.search.jobs import cancel, ended, start
from tests.search.near_hashes import altered, hash_of
from tests.search.support import Stub, create, item, none_of, refused, upsert, where

INVALID, FAILED = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION
MISSING = grpc.StatusCode.NOT_FOUND
SUCCEEDED = search_pb2.JOB_STATE_SUCCEEDED


async def some(stub: Stub) -> None:
    """Three of one look, two of another, of which one has a frame; a file twice without a hash; and single ones."""
    await create(stub)
    await upsert(stub, hashed("first", hash_of(1), metadata={"year": 1}), hashed("alone", hash_of(9)), item("bare"))
    await upsert(
        stub,
        hashed("a copy", altered(hash_of(1), range(31)), quality=50),
        hashed("far", altered(hash_of(1), range(32, 70))),
        hashed("the same", hash_of(1), metadata={"year": 1}),
        hashed("in a frame", hash_of(3), unframed=altered(hash_of(2), [7])),
        hashed("poor", hash_of(1), quality=49),
    )
    await upsert(
        stub,
        hashed("without", hash_of(2)),
        item("file", content_digest=bytes(range(32))),
        item("file too", content_digest=bytes(range(32))),
    )


async def test_groups_are_found_and_told(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find_duplicates, "PAGE", 3)
    monkeypatch.setattr(find_duplicates, "PART_ITEMS", 2)
    await some(stub)
    job = await find(stub, "doubles")
    assert (job.kind, job.collection) == (search_pb2.JOB_KIND_FIND_DUPLICATES, "pictures")
    assert job.find_duplicates == search_pb2.StartFindDuplicatesRequest(collection="pictures")
    done = await ended(stub, "doubles")
    assert (done.state, done.done_count, done.total_count) == (SUCCEEDED, 22, 22)
    assert done.find_duplicates_result == search_pb2.FindDuplicatesResult(
        group_count=3, item_count=7, compared_count=9, skipped_count=2
    )
    groups = await read(stub, "doubles")
    told = [[(each.id, each.distance, each.same_content) for each in group.items] for group in groups]
    assert told == [
        [("first", 0, False), ("the same", 0, False), ("a copy", 31, False)],
        [("in a frame", 0, False), ("without", 1, False)],
        [("file", 0, True), ("file too", 0, True)],
    ]
    qualities = [each.quality if each.HasField("quality") else None for group in groups for each in group.items]
    assert qualities == [90, 90, 50, 90, 90, None, None]
    stored = (await stub.GetItems(search_pb2.GetItemsRequest(collection="pictures", ids=["a copy"]))).items[0]
    assert groups[0].items[2].create_time == stored.create_time
    # From the middle on, and at the end.
    assert await ids(stub, "doubles", 1) == [["in a frame", "without"], ["file", "file too"]]
    assert await ids(stub, "doubles", 2) == [["file", "file too"]]
    assert await ids(stub, "doubles", 3) == []
    await refused(read(stub, "doubles", 4), INVALID, Reason.LIMIT_OUT_OF_RANGE, "first_group")


async def test_a_filter_and_a_distance_choose(stub: Stub) -> None:
    await some(stub)
    near = await ended(stub, (await find(stub, max_distance=30)).id)
    assert (await ids(stub, near.id))[0] == ["first", "the same"] or len(await ids(stub, near.id)) == 3
    assert near.find_duplicates.HasField("max_distance")
    equal = await ended(stub, (await find(stub, max_distance=0, filter=where("year", equals=1))).id)
    assert await ids(stub, equal.id) == [["first", "the same"]]
    nobody = await ended(stub, (await find(stub, filter=none_of(where("$id", exists=True)))).id)
    assert (nobody.find_duplicates_result.compared_count, await ids(stub, nobody.id)) == (0, [])


async def test_bad_starts_are_refused(stub: Stub) -> None:
    await create(stub)
    await refused(find(stub, max_distance=32), INVALID, Reason.OPTION_INVALID, "max_distance")
    await refused(find(stub, filter=search_pb2.Filter()), INVALID, Reason.FILTER_INVALID, "filter")
    words = find(stub, filter=where("title", matches="a"))
    await refused(words, FAILED, Reason.FIELD_NOT_INDEXED, "filter.condition.matches")
    await refused(find(stub, "a b"), INVALID, Reason.JOB_INVALID, "job_id")
    await refused(find(stub, collection=""), INVALID, Reason.COLLECTION_INVALID, "collection")
    await refused(find(stub, collection="none"), MISSING, Reason.COLLECTION_NOT_FOUND)
    await find(stub, "mine")
    await refused(find(stub, "mine", max_distance=31), grpc.StatusCode.ALREADY_EXISTS, Reason.JOB_EXISTS, "job_id")


async def test_too_many_items_are_refused(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find_duplicates, "MAX_ITEMS", 10)
    assert items_module.MAX_ITEMS == 1_000_000
    await some(stub)
    job = await ended(stub, (await find(stub)).id)
    error = from_status(job.error)
    assert (error.reason, error.metadata["limit"], "filter for a part" in error.message) == (
        Reason.TOO_MANY_ITEMS,
        "10",
        True,
    )
    part = await ended(stub, (await find(stub, filter=where("year", equals=1))).id)
    assert part.state == SUCCEEDED


async def test_results_that_are_not_there(serve: Serve) -> None:
    async with serve(job_parallel=0) as (stub, _):
        await some(stub)
        await find(stub, "waits")
        await find(stub, "dropped")
        await start(stub, "other-kind", where("$id", equals="nobody"))
        await cancel(stub, "dropped")
        for _ in range(2):
            assert (await cancel(stub, "dropped")).state == search_pb2.JOB_STATE_CANCELLED
        await refused(read(stub, "waits"), FAILED, Reason.JOB_NOT_ENDED, "job_id")
        await refused(read(stub, "dropped"), FAILED, Reason.JOB_WITHOUT_RESULT, "job_id")
        await refused(read(stub, "other-kind"), INVALID, Reason.JOB_INVALID, "job_id")
        for job_id in ("none", "", "no\0id", "x" * 500):
            await refused(read(stub, job_id), MISSING, Reason.JOB_NOT_FOUND, "job_id")
        await stub.DeleteCollection(search_pb2.DeleteCollectionRequest(name="pictures"))
    async with serve() as (stub, _):
        job = await ended(stub, "waits")
        assert from_status(job.error).reason is Reason.COLLECTION_NOT_FOUND
        with pytest.raises(grpc.aio.AioRpcError, match="it failed: "):
            await read(stub, "waits")


async def test_a_result_outlives_its_collection(stub: Stub) -> None:
    await some(stub)
    await find(stub, "kept")
    assert (await ended(stub, "kept")).state == SUCCEEDED
    await stub.DeleteCollection(search_pb2.DeleteCollectionRequest(name="pictures"))
    assert len(await ids(stub, "kept")) == 3


async def test_the_groups_of_the_newest_jobs_are_kept(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find_duplicates, "KEPT_BESIDE", 1)
    await some(stub)
    for job_id in ("a", "b", "c"):
        await find(stub, job_id)
        await ended(stub, job_id)
    with pytest.raises(grpc.aio.AioRpcError, match="newer jobs have replaced its groups"):
        await read(stub, "a")
    assert await ids(stub, "b") == await ids(stub, "c") != []


async def test_a_large_group_comes_in_small_messages(serve: Serve) -> None:
    async with serve(max_message_bytes=64 * 1024) as (stub, _):
        await create(stub)
        names = [f"{n:04}{'x' * 240}" for n in range(400)]
        for begin in range(0, 400, 100):
            await upsert(stub, *(hashed(name, hash_of(1)) for name in names[begin : begin + 100]))
        job = await ended(stub, (await find(stub)).id)
        request = search_pb2.ReadDuplicatesRequest(job_id=job.id)
        sizes = [answer.ByteSize() async for answer in stub.ReadDuplicates(request)]
        assert len(sizes) > 1
        assert max(sizes) < 64 * 1024
        assert await ids(stub, job.id) == [names]
