"""Parts of the media store: its address, what waits for it, what is known of it."""

import asyncio
from pathlib import Path

import pytest
from pydantic import ValidationError

from router_svc.media.address import MediaAddress, parse_media_url
from router_svc.media.calls import BoundedCalls
from router_svc.media.forms import KeptForm, media_type_of
from router_svc.media.known import KnownDigests
from router_svc.media.store import MediaError
from router_svc.media.waiting import WaitingImage, WaitingRoom
from router_svc.settings import RouterSettings


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("", None),
        ("  ", None),
        ("media", MediaAddress(Path("media"))),
        ("/var/lib/media", MediaAddress(Path("/var/lib/media"))),
        ("file:///var/lib/my%20media", MediaAddress(Path("/var/lib/my media"))),
        ("file://localhost/media", MediaAddress(Path("/media"))),
        ("s3://bucket", MediaAddress(url="s3://bucket")),
        ("s3://bucket/a/prefix/", MediaAddress(url="s3://bucket/a/prefix")),
    ],
)
def test_an_address_is_a_folder_or_a_bucket(value: str, wanted: MediaAddress | None) -> None:
    assert parse_media_url(value) == wanted
    assert RouterSettings(media_url=value).media_url == value


@pytest.mark.parametrize(
    "value",
    ["s3://", "s3:///prefix", "gs://bucket", "http://host/x", "file://host/x", "s3://key:secret@bucket", "s3://b?x=1"],
)
def test_what_is_neither_ends_the_start_and_says_what_would_do(value: str) -> None:
    with pytest.raises(ValidationError, match="s3://BUCKET/PREFIX") as refused:
        RouterSettings(media_url=value)
    assert "media_url" in str(refused.value)


@pytest.mark.parametrize("px", [0, 31, 1025])
def test_thumbnails_have_limits(px: int) -> None:
    with pytest.raises(ValidationError, match="thumbnail_px"):
        RouterSettings(thumbnail_px=px)


def test_names_are_made_of_the_digest_alone() -> None:
    digest = bytes(range(32))
    assert KeptForm.THUMBNAIL.key(digest) == f"thumbnails/00/{digest.hex()}.webp"
    assert KeptForm.ORIGINAL.key(digest) == f"originals/00/{digest.hex()}"


@pytest.mark.parametrize(
    ("beginning", "media_type"),
    [
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
        (b"GIF89a", "image/gif"),
        (b"BM\0\0", "image/bmp"),
        (b"II*\0", "image/tiff"),
        (b"MM\0*", "image/tiff"),
        (b"<html>", "application/octet-stream"),
        (b"", "application/octet-stream"),
    ],
)
def test_a_media_type_is_what_the_first_bytes_say(beginning: bytes, media_type: str) -> None:
    assert media_type_of(beginning) == media_type


async def test_a_room_holds_so_many_bytes_or_one_image_alone() -> None:
    room = WaitingRoom(2_000)
    first, large = (
        WaitingImage(KeptForm.ORIGINAL, bytes([number]), bytes(size)) for number, size in ((1, 100), (2, 5_000))
    )
    room.add(first)
    assert not room.has_room(large.size)
    waits = asyncio.create_task(room.room(large.size, 60))
    await asyncio.sleep(0)
    room.remove(first)
    assert await waits
    room.add(large)
    assert not room.has_room(1)
    assert not await room.room(1, 0.01)
    assert room.clear() == [large]
    assert (room.held_bytes, len(room)) == (0, 0)


def test_what_is_known_is_bounded_and_forgets_what_was_not_asked_for() -> None:
    known = KnownDigests(2)
    known.add(b"a")
    known.add(b"b")
    assert b"a" in known
    known.add(b"c")
    assert [digest in known for digest in (b"a", b"b", b"c")] == [True, False, True]
    known.discard(b"a")
    known.discard(b"never")
    assert b"a" not in known


async def test_calls_that_do_not_end_are_left_and_counted() -> None:
    calls, goes_on = BoundedCalls(1, 0.01), asyncio.Event()
    with pytest.raises(MediaError, match="does not answer"):
        await calls.run(goes_on.wait())
    with pytest.raises(MediaError, match="have not ended"):
        await calls.run(goes_on.wait())
    goes_on.set()
    while not calls.free:  # noqa: ASYNC110 - a task ends
        await asyncio.sleep(0)
    assert await calls.run(goes_on.wait())
    await calls.close()
