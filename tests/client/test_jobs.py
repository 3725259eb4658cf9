"""Jobs by the client: started once, watched past lost connections, waited for."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.rpc.status import to_status
from lensmesh_client import (
    Client,
    DeadlineExceeded,
    JobKind,
    JobState,
    LensmeshError,
    NotFound,
    PreconditionFailed,
    Reason,
    Unavailable,
)
from tests.router.fakes import SPACE, FakeSearch, Host

SUCCEEDED = search_pb2.Job(
    state=search_pb2.JOB_STATE_SUCCEEDED,
    done_count=4,
    delete_items_result=search_pb2.DeleteItemsResult(deleted_count=4),
)


@pytest.fixture
async def search() -> AsyncIterator[Host]:
    """A search service without a router before it."""
    fake = FakeSearch()
    fake.make("c", ("image", SPACE))
    host = Host(fake)
    await host.start()
    yield host
    await host.kill()


@pytest.fixture
async def client(search: Host) -> AsyncIterator[Client]:
    async with Client(search.address, timeout_s=30) as made:
        yield made


def fake_of(host: Host) -> FakeSearch:
    assert isinstance(host.fake, FakeSearch)
    return host.fake


async def test_a_job_is_told_as_it_stands(search: Host, client: Client) -> None:
    job = await client.jobs.start_delete("year>2000", collection="c", job_id="mine")
    assert (job.id, job.kind, job.state, job.share) == ("mine", JobKind.DELETE_ITEMS, JobState.PENDING, 0.0)
    message = fake_of(search).jobs["mine"]
    message.MergeFrom(
        search_pb2.Job(state=search_pb2.JOB_STATE_RUNNING, done_count=3, total_count=4, time_left_ms=1500)
    )
    message.create_time.GetCurrentTime()
    job = await client.jobs.get("mine")
    assert (job.state, job.share, job.time_left_s, job.state.has_ended) == (JobState.RUNNING, 0.75, 1.5, False)
    assert job.create_time is not None
    # Each start without a name is a job of its own, with a name that the client chose.
    others = {(await client.jobs.start_delete("year>2000", collection="c")).id for _ in range(2)}
    assert {each.id async for each in client.jobs.list()} == {"mine", *others}
    assert "" not in others
    assert (await client.jobs.cancel("mine")).state is JobState.CANCELLED
    # Of a newer service.
    message.kind, message.state = 99, 99  # type: ignore[assignment]  # numbers that nobody knows
    job = await client.jobs.get("mine")
    assert (job.kind, job.state) == (None, JobState.RUNNING)


async def test_a_watch_goes_on_where_its_service_ended(search: Host, client: Client) -> None:
    fake = fake_of(search)
    await client.jobs.start_delete("year>2000", collection="c", job_id="mine")
    fake.looks = [search_pb2.Job(done_count=1), Unavailable(Reason.DRAINING, "ends"), search_pb2.Job(done_count=2)]
    fake.looks += [SUCCEEDED]
    seen = [(job.state, job.done_count) async for job in client.jobs.watch("mine")]
    running = [(JobState.PENDING, count) for count in (0, 1, 1, 2)]
    assert seen == [*running, (JobState.SUCCEEDED, 4)]
    fake.looks = [SUCCEEDED]
    watch = asyncio.ensure_future(client.jobs.wait("mine"))
    await search.kill()
    await search.start()
    assert (await watch).result == {"deleted_count": 4}


async def test_waiting_raises_why_a_job_failed(search: Host, client: Client) -> None:
    await client.jobs.start_delete("year>2000", collection="c", job_id="mine")
    gone = NotFound(Reason.COLLECTION_NOT_FOUND, "no collection c")
    fake_of(search).looks = [search_pb2.Job(state=search_pb2.JOB_STATE_FAILED, error=to_status(gone))]
    with pytest.raises(NotFound, match="no collection c"):
        await client.jobs.wait("mine")
    with pytest.raises(NotFound) as caught:
        await client.jobs.wait("none")
    assert caught.value.reason is Reason.JOB_NOT_FOUND


async def test_patience_ends(search: Host, client: Client) -> None:
    fake = fake_of(search)
    await client.jobs.start_delete("year>2000", collection="c", job_id="mine")
    fake.released = asyncio.Event()
    fake.looks = [SUCCEEDED]
    with pytest.raises(DeadlineExceeded, match="it goes on"):
        await client.jobs.wait("mine", timeout_s=0.3)
    fake.released.set()
    await search.kill()
    with pytest.raises(Unavailable):
        await client.jobs.wait("mine", patience_s=0.2)


async def test_wrong_words_are_refused(client: Client) -> None:
    for call in (
        anext(client.jobs.list(states="done")),
        anext(client.jobs.list(kind="paint")),
        client.jobs.start_delete({"year": object()}, collection="c"),  # type: ignore[arg-type]  # its very point
        client.jobs.get(7),  # type: ignore[arg-type]  # the same
    ):
        with pytest.raises(LensmeshError):
            await call


def part(index: int, *ids: str, count: int = 2, first: int = 0) -> search_pb2.DuplicateGroup:
    items = [search_pb2.DuplicateItem(id=each, distance=3) for each in ids]
    return search_pb2.DuplicateGroup(index=index, item_count=count, first_item=first, items=items)


async def test_groups_are_read_past_lost_streams_and_come_whole(search: Host, client: Client) -> None:
    job = await client.jobs.start_find_duplicates(collection="c", filter="year>2000", max_distance=0, job_id="mine")
    assert (job.kind, job.state) == (JobKind.FIND_DUPLICATES, JobState.PENDING)
    asked = fake_of(search).jobs["mine"].find_duplicates
    assert (asked.HasField("max_distance"), asked.filter.condition.field) == (True, "year")
    ended = Unavailable(Reason.DRAINING, "ends")
    fake_of(search).parts = [part(0, "a", "b"), part(1, "c", count=3), ended, part(1, "c", count=3)]
    fake_of(search).parts += [part(1, "d", "e", count=3, first=1), ended, part(2, "f", "g")]
    groups = [group async for group in client.jobs.read_duplicates("mine")]
    assert [(group.index, [item.id for item in group.items]) for group in groups] == [
        (0, ["a", "b"]),
        (1, ["c", "d", "e"]),
        (2, ["f", "g"]),
    ]
    assert (groups[0].items[0].distance, groups[0].items[0].quality) == (3, None)
    fake_of(search).parts = [part(0, "a", "b"), part(1, "c", "d")]
    assert [group.index async for group in client.jobs.read_duplicates("mine", first_group=1)] == [1]
    fake_of(search).parts = [PreconditionFailed(Reason.JOB_NOT_ENDED, "wait")]
    with pytest.raises(PreconditionFailed):
        await anext(client.jobs.read_duplicates("mine"))
    with pytest.raises(NotFound):
        await anext(client.jobs.read_duplicates("none"))
    for wrong in (
        client.jobs.read_duplicates("mine", first_group=-1),
        client.jobs.read_duplicates("mine", timeout_s=-1),
    ):
        with pytest.raises(LensmeshError):
            await anext(wrong)
    with pytest.raises(LensmeshError):
        await client.jobs.start_find_duplicates(collection="c", max_distance=-1)
    await search.kill()
    with pytest.raises(Unavailable):
        await anext(client.jobs.read_duplicates("mine", patience_s=0.2))
