"""Images that are kept while they are ingested, and read again."""

import hashlib
from pathlib import Path

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InvalidInput, NotFound, PreconditionFailed
from lensmesh_chassis.reasons import Reason
from router_svc.media.forms import KeptForm
from tests.router.conftest import Mesh
from tests.router.faults import OTHER_SPACE, SPACE
from tests.router.helpers import error_of, item
from tests.router.media.conftest import ORIGINAL, PX, MediaMesh, key, small
from tests.support.waiting import until

UNCHANGED = search_pb2.UPSERT_OUTCOME_UNCHANGED
UPDATED = search_pb2.UPSERT_OUTCOME_UPDATED
CREATED = search_pb2.UPSERT_OUTCOME_CREATED
PNG = b"\x89PNG\r\n\x1a\n and so on"


async def test_thumbnails_are_made_beside_the_vectors_and_answered_at_once(media: MediaMesh) -> None:
    media.store.goes_on.clear()
    await media.mesh.ingest(item("a"), item("b"))
    assert len(media.mesh.encoder.images) == 2
    answer = await media.image(b"a")
    assert (answer.content, answer.media_type) == (small(b"a"), "image/webp"), "though it is not written yet"
    assert not media.store.files
    media.store.goes_on.set()
    await until(lambda: media.store.files.keys() == {key(b"a"), key(b"b")})
    assert await media.image(b"b") == router_pb2.GetImageResponse(content=small(b"b"), media_type="image/webp")
    assert media.store.media_types[key(b"a")] == "image/webp"
    assert (media.counted("written"), media.waiting_bytes()) == (2, 0)
    error = await media.refusal(b"a", ORIGINAL)
    assert isinstance(error, PreconditionFailed)
    assert (error.reason, error.metadata["setting"]) == (Reason.MEDIA_NOT_KEPT, "keep_originals")


async def test_a_call_of_one_image_keeps_it_too(media: MediaMesh) -> None:
    await media.mesh.router.Ingest(router_pb2.IngestRequest(item=item("a")))
    assert (await media.image(b"a")).content == small(b"a")


async def test_files_are_kept_as_they_came(unstarted_media: MediaMesh) -> None:
    media = await unstarted_media.start(keep_originals=True)
    await media.mesh.ingest(item("png", PNG), item("other", b"other"))
    await until(lambda: len(media.store.files) == 4)
    assert media.store.files[key(PNG, KeptForm.ORIGINAL)] == PNG
    assert media.store.media_types[key(PNG, KeptForm.ORIGINAL)] == "image/png"
    answers = [await media.image(content, ORIGINAL) for content in (PNG, b"other")]
    assert [(answer.content, answer.media_type) for answer in answers] == [
        (PNG, "image/png"),
        (b"other", "application/octet-stream"),
    ]
    info = await media.info()
    assert (info.thumbnails, info.originals, info.thumbnail_px, info.trouble) == (True, True, PX, "")


async def test_what_is_there_is_not_made_again(media: MediaMesh) -> None:
    encoder, store = media.mesh.encoder, media.store
    await media.mesh.ingest(item("a", id="a"))
    await until(lambda: store.files)
    assert encoder.shown == [b"a"]
    asked = len(store.asked)
    await media.mesh.ingest(item("a", id="a"), item("copy", b"a", id="b"))
    await media.mesh.ingest(item("a", id="a"), collection="another")
    assert encoder.shown == [b"a"]
    assert len(store.asked) == asked, "it is known to be there"
    assert len(store.writes) == 1
    # Another router knows nothing, and asks.
    store.files[key(b"c")] = b"kept by another"
    await media.mesh.ingest(item("c", id="c"))
    assert encoder.shown == [b"a"]
    assert (await media.image(b"c")).content == b"kept by another"


async def test_what_is_missing_is_made_up_without_a_change(unstarted_media: MediaMesh) -> None:
    media = await unstarted_media.start(keep_originals=True)
    store, encoder = media.store, media.mesh.encoder
    await media.mesh.ingest(item("a", id="a"))
    await until(lambda: len(store.files) == 2)
    for form in KeptForm:
        del store.files[key(b"a", form)]
        assert (
            await media.refusal(b"a", ORIGINAL if form is KeptForm.ORIGINAL else 0)
        ).reason is Reason.MEDIA_NOT_FOUND
    results = await media.mesh.ingest(item("a", id="a"))
    assert results["a"].item.outcome == UNCHANGED
    await until(lambda: len(store.files) == 2)
    assert store.files == {key(b"a"): small(b"a"), key(b"a", KeptForm.ORIGINAL): b"a"}
    assert encoder.shown == [b"a", b"a"]
    # The same image under another id takes the vector that is there, and its thumbnail is made alone.
    del store.files[key(b"a")]
    await media.refusal(b"a")
    assert (await media.mesh.ingest(item("copy", b"a", id="b")))["copy"].item.outcome == CREATED
    await until(lambda: key(b"a") in store.files)
    changed = await media.mesh.ingest(item("a", id="a", caption="mine"))
    assert changed["a"].item.outcome == UPDATED
    assert len(encoder.shown) == 3


async def test_the_first_space_alone_is_asked_for_thumbnails(unstarted_media: MediaMesh) -> None:
    media = unstarted_media
    media.mesh.encoder.spaces = (SPACE, OTHER_SPACE)
    await media.start()
    media.mesh.search.make("two", ("image", SPACE), ("other", OTHER_SPACE))
    await media.mesh.ingest(item("a"), collection="two")
    asked = {each.space_id: each.thumbnail_px for each in media.mesh.encoder.options}
    assert asked == {SPACE.id: PX, OTHER_SPACE.id: 0}
    assert (await media.image(b"a")).content == small(b"a")


async def test_an_image_that_fails_or_is_left_out_is_not_kept(media: MediaMesh) -> None:
    results = await media.mesh.ingest(item("bad"), item("a"))
    assert results["bad"].HasField("error")
    near = router_pb2.NearDuplicateOptions(action=router_pb2.NEAR_DUPLICATE_ACTION_SKIP)
    await media.mesh.ingest(item("look A 0"), near_duplicates=near)
    skipped = await media.mesh.ingest(item("look A 1"), near_duplicates=near)
    assert skipped["look A 1"].item.outcome == search_pb2.UPSERT_OUTCOME_SKIPPED
    await until(lambda: media.store.files.keys() == {key(b"a"), key(b"look A 0")})
    assert (await media.refusal(b"look A 1")).reason is Reason.MEDIA_NOT_FOUND


async def test_an_encoder_of_an_older_release_makes_none_and_nothing_fails(media: MediaMesh) -> None:
    media.mesh.encoder.makes_thumbnails = False
    results = await media.mesh.ingest(item("a"))
    assert results["a"].item.outcome == CREATED
    assert (await media.refusal(b"a")).reason is Reason.MEDIA_NOT_FOUND


async def test_an_encoder_that_is_away_keeps_no_unchanged_item_waiting(media: MediaMesh) -> None:
    await media.mesh.ingest(item("a", id="a"))
    await until(lambda: media.store.files)
    media.store.files.clear()
    await media.refusal(b"a")
    await media.mesh.host(media.mesh.encoder).kill()
    assert (await media.mesh.ingest(item("a", id="a")))["a"].item.outcome == UNCHANGED
    assert (await media.refusal(b"a")).reason is Reason.MEDIA_NOT_FOUND


async def test_a_guessed_digest_is_not_found(media: MediaMesh) -> None:
    for form in (0, router_pb2.IMAGE_FORM_THUMBNAIL):
        error = await media.refusal(b"never seen", form)
        assert isinstance(error, NotFound)
        assert error.reason is Reason.MEDIA_NOT_FOUND


@pytest.mark.parametrize("digest", [b"", b"short", b"x" * 31, b"x" * 33, b"../../etc/passwd", b"x" * 64])
async def test_what_is_no_digest_is_refused_by_its_field(media: MediaMesh, digest: bytes) -> None:
    error = await error_of(media.mesh.router.GetImage(router_pb2.GetImageRequest(content_digest=digest)))
    assert isinstance(error, InvalidInput)
    assert error.reason is Reason.DIGEST_INVALID
    assert [violation.field for violation in error.violations] == ["content_digest"]


async def test_an_unknown_form_is_refused_by_its_field(media: MediaMesh) -> None:
    error = await media.refusal(b"a", 7)
    assert (error.reason, [each.field for each in error.violations]) == (Reason.OPTION_INVALID, ["form"])


async def test_a_file_that_no_message_holds_is_refused(unstarted_media: MediaMesh) -> None:
    media = await unstarted_media.start(max_message_bytes=65_536)
    media.store.files[key(b"a")] = bytes(65_537)
    error = await media.refusal(b"a")
    assert (error.reason, error.metadata["limit_bytes"]) == (Reason.RESPONSE_TOO_LARGE, "65536")


async def test_a_router_without_a_media_store_keeps_nothing_and_says_so(mesh: Mesh) -> None:
    await mesh.ingest(item("a"))
    assert not mesh.encoder.options[-1].thumbnail_px
    digest = hashlib.sha256(b"a").digest()
    for form in (router_pb2.IMAGE_FORM_UNSPECIFIED, ORIGINAL):
        error = await error_of(mesh.router.GetImage(router_pb2.GetImageRequest(content_digest=digest, form=form)))
        assert isinstance(error, PreconditionFailed)
        assert (error.reason, error.metadata["setting"]) == (Reason.MEDIA_NOT_KEPT, "media_url")
    status = await mesh.router.GetStatus(router_pb2.GetStatusRequest())
    assert status.media == router_pb2.MediaInfo()


async def test_a_folder_keeps_them_until_the_next_start(unstarted: Mesh, tmp_path: Path) -> None:
    folder = tmp_path / "data" / "media"
    mesh = await unstarted.start(media_url=str(folder), keep_originals=True)
    await mesh.ingest(item("a"))
    digest = hashlib.sha256(b"a").hexdigest()
    thumbnail, original = (
        folder / "thumbnails" / digest[:2] / f"{digest}.webp",
        folder / "originals" / digest[:2] / digest,
    )
    await until(lambda: thumbnail.exists() and original.exists())
    assert original.read_bytes() == b"a"
    assert {path.name for path in folder.rglob("*") if path.is_file()} == {thumbnail.name, original.name}
    health = health_pb2_grpc.HealthStub(mesh.channel)
    answer = await health.Check(health_pb2.HealthCheckRequest(service="media"))
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
