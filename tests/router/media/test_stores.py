"""The media store of a folder, and of a server that speaks S3, with real faults."""

import asyncio
import os
import subprocess
from collections.abc import Awaitable, Iterator
from pathlib import Path

import pytest

from router_svc.media.address import MediaAddress, parse_media_url
from router_svc.media.store import MediaError, ObjectMediaStore, OversizedMediaError
from tests.router.media.fake_store import Bucket, serving_bucket

KEY = "thumbnails/ab/abcd.webp"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system of its own")


def store_in(folder: Path) -> ObjectMediaStore:
    return ObjectMediaStore(MediaAddress(folder))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", place], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode()}")
    yield place
    subprocess.run(["umount", place], check=True)


def remount(place: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", place], check=True)


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def failure_of(call: Awaitable[None]) -> str:
    """Why a write fails; "" where it does not."""
    try:
        await call
    except MediaError as error:
        return str(error)
    return ""


async def exchange(store: ObjectMediaStore) -> None:
    """What every store does."""
    assert await store.get(KEY, 100) is None
    assert not await store.has(KEY)
    await store.put(KEY, b"first", "image/webp")
    await store.put(KEY, b"second", "image/webp")
    assert await store.get(KEY, 6) == b"second"
    assert await store.has(KEY)
    with pytest.raises(OversizedMediaError):
        await store.get(KEY, 5)


async def test_a_folder_is_made_where_it_is_missing(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "here"
    assert not folder.exists()
    await exchange(store_in(folder))
    assert [path.name for path in files_in(folder)] == ["abcd.webp"]


async def test_a_file_that_lost_its_bytes_is_as_good_as_none(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    (tmp_path / KEY).parent.mkdir(parents=True)
    (tmp_path / KEY).touch()
    assert not await store.has(KEY)
    assert await store.get(KEY, 100) is None


async def test_where_no_folder_can_be_made_the_next_call_tries_again(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    store = store_in(blocked)
    for call in (store.put(KEY, b"x", "image/webp"), store.get(KEY, 9), store.has(KEY)):
        with pytest.raises(MediaError) as failed:
            await call
        assert "\n" not in str(failed.value)
    blocked.unlink()
    await exchange(store)


@needs_root
async def test_a_full_folder_keeps_what_it_has_and_no_halves(small_disk: Path) -> None:
    store = store_in(small_disk)
    names = [f"thumbnails/{number:02}/x.webp" for number in range(20)]
    errors = [error for name in names if (error := await failure_of(store.put(name, bytes(100_000), "image/webp")))]
    kept = [name for name in names if await store.has(name)]
    assert 5 < len(kept) == 20 - len(errors) < 20
    assert all("No space left" in error for error in errors)
    assert await store.get(names[0], 200_000) == bytes(100_000)
    files = files_in(small_disk)
    assert len(files) == len(kept)
    files[-1].unlink()
    await store.put(KEY, b"there is room", "image/webp")


@needs_root
async def test_a_read_only_folder_is_read(small_disk: Path) -> None:
    store = store_in(small_disk)
    await store.put(KEY, b"x", "image/webp")
    remount(small_disk, "ro")
    with pytest.raises(MediaError, match="Read-only"):
        await store.put("thumbnails/cd/cdef.webp", b"x", "image/webp")
    assert await store.get(KEY, 9) == b"x"
    remount(small_disk, "rw")
    await store.put("thumbnails/cd/cdef.webp", b"x", "image/webp")


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """As a process gets them from its environment."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "lensmesh",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "eu-central-1",
    }.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def store_of(bucket: Bucket, credentials: pytest.MonkeyPatch) -> ObjectMediaStore:
    credentials.setenv("AWS_ENDPOINT_URL", bucket.endpoint)
    address = parse_media_url("s3://images/mesh/media")
    assert address is not None
    return ObjectMediaStore(address)


async def test_a_bucket_has_names_below_its_prefix_and_media_types(credentials: pytest.MonkeyPatch) -> None:
    async with serving_bucket() as bucket:
        await exchange(store_of(bucket, credentials))
    assert bucket.files == {f"mesh/media/{KEY}": b"second"}
    assert bucket.media_types == {f"mesh/media/{KEY}": "image/webp"}


@pytest.mark.parametrize("status", [403, 500, 503])
async def test_what_a_bucket_refuses_is_an_error_in_one_line(credentials: pytest.MonkeyPatch, status: int) -> None:
    async with serving_bucket() as bucket:
        store = store_of(bucket, credentials)
        bucket.status = status
        for call in (store.put(KEY, b"x", "image/webp"), store.get(KEY, 9), store.has(KEY)):
            with pytest.raises(MediaError) as failed:
                await call
            assert "\n" not in str(failed.value)
            assert "secret" not in str(failed.value)
        bucket.status = 0
        await exchange(store)


async def test_a_bucket_that_is_away_is_an_error_until_it_is_back(credentials: pytest.MonkeyPatch) -> None:
    async with serving_bucket() as bucket:
        store = store_of(bucket, credentials)
        await store.put(KEY, b"x", "image/webp")
    async with asyncio.timeout(60):
        for call in (store.put(KEY, b"y", "image/webp"), store.get(KEY, 9), store.has(KEY)):
            with pytest.raises(MediaError):
                await call
