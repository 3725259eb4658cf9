"""A media store that is full, read-only, away or hangs: images are ingested all the same, and made up later."""

import asyncio
from typing import Any

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import Unavailable
from lensmesh_chassis.reasons import Reason
from router_svc.media import inventory, media, writer
from router_svc.media.forms import KeptForm
from tests.router.helpers import item
from tests.router.media.conftest import ORIGINAL, MediaMesh, key, small
from tests.support.waiting import until

CREATED, UNCHANGED = search_pb2.UPSERT_OUTCOME_CREATED, search_pb2.UPSERT_OUTCOME_UNCHANGED


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes seconds takes less."""
    monkeypatch.setattr(writer, "_FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(writer, "_LONGEST_PAUSE_S", 0.05)
    monkeypatch.setattr(writer, "_WRITE_S", 0.2)
    monkeypatch.setattr(writer, "MOMENT_S", 0.1)
    monkeypatch.setattr(writer, "_END_S", 0.1)
    monkeypatch.setattr(inventory, "_LOOK_S", 0.1)
    monkeypatch.setattr(inventory, "_PAUSE_S", 0.3)
    monkeypatch.setattr(media, "_READ_S", 0.2)


def images(*names: str) -> list[router_pb2.IngestItem]:
    return [item(name, id=name) for name in names]


def outcomes(results: dict[str, router_pb2.IngestResult]) -> set[int]:
    return {result.item.outcome for result in results.values()}


@pytest.mark.parametrize("why", ["No space left on device (os error 28)", "Read-only file system (os error 30)"])
async def test_what_cannot_be_written_waits_until_it_can(media: MediaMesh, why: str) -> None:
    media.store.read_only = why
    assert outcomes(await media.mesh.ingest(*images("a", "b", "c"))) == {CREATED}
    await until(lambda: media.counted("failed") >= 3)
    info = await media.info()
    assert (info.thumbnails, info.trouble) == (True, why)
    assert (await media.image(b"a")).content == small(b"a"), "it is answered while it waits"
    health = health_pb2_grpc.HealthStub(media.mesh.channel)
    ask = health_pb2.HealthCheckRequest(service="media")
    assert (await health.Check(ask)).status == health_pb2.HealthCheckResponse.NOT_SERVING
    whole = await health.Check(health_pb2.HealthCheckRequest())
    assert whole.status == health_pb2.HealthCheckResponse.SERVING, "ingest and search go on"
    assert media.waiting_bytes() > 0
    media.store.read_only = ""
    await until(lambda: media.store.files.keys() == {key(b"a"), key(b"b"), key(b"c")})
    assert (await media.info()).trouble == ""
    assert (await health.Check(ask)).status == health_pb2.HealthCheckResponse.SERVING
    assert (media.counted("dropped"), media.counted("written"), media.waiting_bytes()) == (0, 3, 0)


async def test_an_outage_is_said_once(media: MediaMesh, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    media.store.away = "connection refused"
    await media.mesh.ingest(*images(*"abcdef"))
    await until(lambda: media.counted("failed") >= 12)
    media.store.away = ""
    await until(lambda: len(media.store.files) == 6)
    said = [record.getMessage() for record in caplog.records if "media store" in record.getMessage()]
    for words in ("cannot be written", "cannot be asked", "written again"):
        assert len([line for line in said if words in line]) == 1, said


async def test_what_finds_no_room_is_dropped_and_made_up_with_the_next_ingest(unstarted_media: MediaMesh) -> None:
    media = await unstarted_media.start(media_waiting_bytes=2_000)
    media.store.away = "away"
    names = [f"image {number}" for number in range(12)]
    assert outcomes(await media.mesh.ingest(*images(*names))) == {CREATED}
    assert media.counted("dropped") >= 8
    assert media.waiting_bytes() <= 2_000
    # While it is away nobody knows what is there: no image that is stored is looked at again for that.
    shown = len(media.mesh.encoder.shown)
    assert outcomes(await media.mesh.ingest(*images(*names))) == {UNCHANGED}
    assert len(media.mesh.encoder.shown) == shown
    media.store.away = ""

    async def made_up() -> bool:
        assert outcomes(await media.mesh.ingest(*images(*names))) == {UNCHANGED}
        return media.store.files.keys() == {key(name.encode()) for name in names}

    await until(made_up)
    assert all(media.store.files[key(name.encode())] == small(name.encode()) for name in names)


async def test_a_store_that_hangs_slows_no_stream_for_ever(unstarted_media: MediaMesh) -> None:
    media = await unstarted_media.start(media_waiting_bytes=2_000, stream_in_flight_items=4)
    media.store.goes_on.clear()
    names = [f"image {number}" for number in range(60)]
    results = await media.mesh.ingest_messages(
        [router_pb2.IngestStreamRequest(items=images(*names[first : first + 5])) for first in range(0, 60, 5)]
    )
    assert outcomes(results) == {CREATED}
    assert len(results) == 60
    await until(lambda: media.counted("failed") > 0)
    assert "does not answer within" in (await media.info()).trouble
    # Calls that have not ended are bounded, however long that lasts.
    await asyncio.sleep(0.2)
    assert media.store.hanging <= 8 + 64
    error = await media.refusal(b"never seen")
    assert isinstance(error, Unavailable)
    assert (error.reason, error.retry_after_s) == (Reason.MEDIA_UNAVAILABLE, 1.0)
    media.store.goes_on.set()
    await until(lambda: media.store.hanging == 0 and media.waiting_bytes() == 0)


async def test_a_store_that_hangs_and_goes_on_gets_what_waits(media: MediaMesh) -> None:
    media.store.goes_on.clear()
    await media.mesh.ingest(*images("a", "b"))
    await until(lambda: media.counted("failed") > 0)
    media.store.goes_on.set()
    await until(lambda: media.store.files.keys() == {key(b"a"), key(b"b")})

    async def well() -> bool:
        return (await media.info()).trouble == ""

    await until(well)


async def test_one_image_that_is_refused_does_not_stop_the_others(media: MediaMesh) -> None:
    media.store.refuses = {key(b"a")}
    await media.mesh.ingest(*images("a", "b"))
    number = 0

    async def given_up() -> bool:
        nonlocal number
        number += 1
        await media.mesh.ingest(item(f"other {number}"))
        return media.counted("dropped") == 1

    await until(given_up)
    await until(lambda: media.waiting_bytes() == 0)
    assert key(b"a") not in media.store.files
    assert len(media.store.files) == number + 1
    assert (await media.info()).trouble == ""


async def test_reads_of_a_store_that_is_away_can_be_tried_again(media: MediaMesh) -> None:
    media.store.away = "connection refused"
    assert (await media.refusal(b"a", ORIGINAL)).reason is Reason.MEDIA_NOT_KEPT
    error = await media.refusal(b"a")
    assert isinstance(error, Unavailable)
    assert (error.reason, error.retry_after_s) == (Reason.MEDIA_UNAVAILABLE, 1.0)
    assert "connection refused" in error.message


async def test_what_waits_is_written_before_the_router_ends(unstarted_media: MediaMesh) -> None:
    media, store = unstarted_media, unstarted_media.store
    await media.start(keep_originals=True)
    store.goes_on.clear()
    await media.mesh.ingest(*images("a", "b"))
    stopping: Any = asyncio.create_task(media.mesh.stop())
    store.goes_on.set()
    await stopping
    assert store.files.keys() == {key(content, form) for content in (b"a", b"b") for form in KeptForm}
