"""What is not proven cheap is decoded with care: in other threads' way never, within a budget, and refused for good."""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lensmesh_chassis.errors import InvalidInput, LensmeshError
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.images.care import NeedsCareError
from lensmesh_inference.images.decoder import ImageDecoder
from lensmesh_inference.images.limits import DecodeCosts, ImageLimits
from lensmesh_inference.images.pool import DecodePool
from lensmesh_inference.images.raster import cost_by_pillow
from lensmesh_inference.images.structure import look
from lensmesh_inference.images.suspects import fingerprint
from lensmesh_inference.images.transform import Transform
from tests.inference.images.costly import Deadly, Hanging
from tests.inference.images.encoded import encoded, noise
from tests.support.hostile_images import tiff

LIMITS = ImageLimits()
TRANSFORM = Transform(32, 32, "shortest", "bicubic")
CHEAP = encoded(noise(), "JPEG")
# Each of its pixels is 16 bits, and all of them are said in 5 KB.
TIFF = encoded(noise(), "TIFF")


@pytest.fixture(scope="module")
def decoder() -> Iterator[ImageDecoder]:
    decoder = ImageDecoder(LIMITS)
    yield decoder
    decoder.close()


@pytest.fixture
async def pool() -> AsyncIterator[DecodePool]:
    pool = DecodePool(1, decoder=ImageDecoder(LIMITS))
    yield pool
    await pool.close()


async def test_images_that_hang_keep_neither_texts_nor_cheap_images_waiting(
    pool: DecodePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging = [
        asyncio.create_task(
            pool.run(pool.decoder.prepare, TIFF, Hanging(32, 32, "squash", "bicubic"), f"images[{place}]")
        )
        for place in range(4)
    ]
    async with asyncio.timeout(120):
        while not pool.decoder.pids:  # noqa: ASYNC110 - another thread starts them
            await asyncio.sleep(0.005)
        assert await pool.run(str.upper, "a text") == "A TEXT"
        assert (await pool.run(pool.decoder.prepare, CHEAP, TRANSFORM)).pixels.shape == (3, 32, 32)
        # The watchdog has no reason to end the process for them.
        assert pool.running() == []
        assert not any(task.done() for task in hanging)
    # Those that still hang do not keep the service from ending: they are for another replica.
    monkeypatch.setattr("lensmesh_inference.images.pool.CAREFUL_END_S", 0.1)
    async with asyncio.timeout(60):
        await pool.close()
    ends = await asyncio.gather(*hanging, return_exceptions=True)
    assert {error.reason for error in ends if isinstance(error, LensmeshError)} == {Reason.DRAINING}


async def test_in_a_quick_thread_it_is_only_said_that_care_is_needed() -> None:
    pool = DecodePool(1)
    places: list[str] = []

    def job() -> int:
        places.append(threading.current_thread().name)
        if len(places) == 1:
            raise NeedsCareError
        return 7

    assert await pool.run(job) == 7
    assert [place.rpartition("_")[0] for place in places] == ["decode", "decode-careful"]
    await pool.close()


def test_what_cost_too_much_is_refused_at_once_the_next_time(decoder: ImageDecoder) -> None:
    content = encoded(noise(size=(20, 20)), "TIFF")
    deadly = Deadly(32, 32, "squash", "bicubic")
    with pytest.raises(InvalidInput, match="ended the process") as first:
        decoder.prepare(content, deadly, "images[1]")
    pids = decoder.pids
    with pytest.raises(InvalidInput, match=r"^items\[4\] ended the process") as again:
        decoder.prepare(content, TRANSFORM, "items[4]")
    assert first.value.reason is again.value.reason is Reason.IMAGE_TOO_COSTLY
    assert again.value.violations[0].field == "items[4]"
    assert decoder.pids == pids


def test_whole_images_come_from_there_too(decoder: ImageDecoder) -> None:
    for image in (noise(), noise("L")):
        whole = decoder.check(encoded(image, "TIFF")).image
        assert whole.mode == "RGB"
        assert np.array_equal(np.asarray(whole), np.asarray(image.convert("RGB")))


def test_a_large_image_is_decoded_with_care_whatever_its_kind(decoder: ImageDecoder) -> None:
    small = ImageDecoder(LIMITS, costs=DecodeCosts(memory_bytes=3 * 2**20))
    content = encoded(noise(size=(400, 200)))
    assert look(content).usual
    assert cost_by_pillow(look(content), 400 * 200) > 2**20 // 2
    assert (
        np.abs(
            small.prepare(content, TRANSFORM).pixels.numpy().astype(int)
            - decoder.prepare(content, TRANSFORM).pixels.numpy()
        ).max()
        <= 1
    )
    assert len(small.pids) == 1
    # And one that would not fit alone is refused, naming the limit.
    with pytest.raises(InvalidInput, match=r"the limit is 2097152") as caught:
        small.prepare(encoded(Image.new("RGB", (1000, 1000))), TRANSFORM)
    assert caught.value.reason is Reason.IMAGE_TOO_COSTLY
    small.close()


def test_too_many_pixels_are_told_as_that(decoder: ImageDecoder) -> None:
    tags = [(256, 4, 1, 9000), (257, 4, 1, 9000), (258, 3, 1, 8), (262, 3, 1, 1), (273, 4, 1, 8), (279, 4, 1, 9)]
    for content in (tiff(tags), encoded(Image.new("1", (9000, 9000)), "PNG")):
        with pytest.raises(InvalidInput) as caught:
            decoder.prepare(content, TRANSFORM)
        assert caught.value.reason is Reason.IMAGE_TOO_MANY_PIXELS


def test_an_image_that_was_decoded_when_a_process_ended_is_decoded_with_care(tmp_path: Path) -> None:
    # What a process that ends leaves: its file, and nobody who holds it.
    (tmp_path / "decoding-1").write_bytes(bytes(16) + fingerprint(CHEAP))
    decoder = ImageDecoder(LIMITS, costs=DecodeCosts(state_dir=str(tmp_path)))
    with pytest.raises(InvalidInput, match="ended the process"):
        decoder.prepare(CHEAP, Deadly(32, 32, "squash", "bicubic"))
    decoder.close()


def test_pillow_warns_of_strangers_files_nowhere(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        decoder = ImageDecoder(LIMITS)
        # EXIF of thousands of tags that end behind the file.
        exif = b"Exif\0\0" + tiff([(number, 2, 9999, 60_000) for number in range(1, 4000)])
        decoder.prepare(encoded(noise(), "JPEG", exif=exif), TRANSFORM)
    assert told == []
    assert capfd.readouterr() == ("", "")
    assert [record for record in caplog.records if record.name.startswith("PIL")] == []
