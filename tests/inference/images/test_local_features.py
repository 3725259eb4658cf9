"""Local features: found again in altered images, the same whatever way an image goes, none where nothing is to see."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageFilter

from bench.files import load_photographs
from lensmesh_chassis.encode_answers import ANSWER_BYTES, answers_in, check_answer_size
from lensmesh_chassis.errors import InvalidInput, PreconditionFailed
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.images.decoder import ImageDecoder
from lensmesh_inference.images.limits import ImageLimits
from lensmesh_inference.images.local_features import (
    MAX_BYTES,
    MAX_POINTS,
    LocalFeatures,
    features_of,
    jpeg_part,
    opencv,
    supported,
)
from lensmesh_inference.images.transform import Transform
from lensmesh_inference.images.transparency import Transparency
from tests.inference.images.encoded import STORED, encoded, oriented, photograph

DECODER = ImageDecoder(ImageLimits())


@pytest.fixture
def careful() -> Iterator[ImageDecoder]:
    """A decoder that is closed with its processes."""
    decoder = ImageDecoder(ImageLimits())
    yield decoder
    decoder.close()


def square(side: int) -> Transform:
    return Transform(side, side, "shortest", "bicubic")


def featured(content: bytes, side: int = 224, decoder: ImageDecoder = DECODER) -> LocalFeatures:
    """The features that a model of this size gets."""
    found = decoder.prepare(content, square(side), featured=True).local_features
    assert found is not None
    return found


def places(features: LocalFeatures) -> npt.NDArray[np.float64]:
    """Where the points are, in parts of the longer side."""
    return np.frombuffer(features.points, "<u2").reshape(-1, 2) / 65_535


def described(features: LocalFeatures) -> npt.NDArray[np.uint8]:
    return np.frombuffer(features.descriptors, np.uint8).reshape(-1, 32)


def alike(one: LocalFeatures, other: LocalFeatures) -> int:
    """How many points of one have their like in the other, by one homography."""
    if min(one.count, other.count) < 4:
        return 0
    pairs: Any = cv2.BFMatcher(cv2.NORM_HAMMING).knnMatch(described(one), described(other), k=2)
    near = [first for first, second in pairs if first.distance < 0.8 * second.distance]
    if len(near) < 4:
        return 0
    here = places(one)[[match.queryIdx for match in near]] * 1000
    there = places(other)[[match.trainIdx for match in near]] * 1000
    _, inliers = cv2.findHomography(here, there, cv2.RANSAC, 12.0)
    return int(inliers.sum()) if inliers is not None else 0


def of(image: Image.Image) -> LocalFeatures:
    return features_of(np.asarray(image))


ALTERED: Mapping[str, Callable[[Image.Image], Image.Image]] = {
    "cropped": lambda image: image.crop((image.width // 5, image.height // 6, image.width, image.height)),
    "turned": lambda image: image.rotate(10, Image.Resampling.BICUBIC),
    "half size": lambda image: image.reduce(2),
    "in perspective and blurred": lambda image: image.transform(
        image.size, Image.Transform.PERSPECTIVE, (1.1, 0.1, -20, 0.02, 1.15, -15, 1e-4, 2e-4), Image.Resampling.BICUBIC
    ).filter(ImageFilter.GaussianBlur(1.2)),
}


@pytest.mark.parametrize("way", ALTERED)
def test_an_altered_image_is_recognised_and_no_other_is(way: str) -> None:
    originals = [one.resize((480, 360)) for one in load_photographs()[:4]]
    features = [of(one) for one in originals]
    for number, original in enumerate(originals):
        found = [alike(of(ALTERED[way](original)), one) for one in features]
        assert [count >= 30 for count in found] == [place == number for place in range(4)], found
        assert max(count for place, count in enumerate(found) if place != number) < 12


def test_points_are_where_the_image_shows_them() -> None:
    """A bright square's corners, in parts of the longer side, wherever the image is large or small."""
    for width, height in ((400, 300), (300, 400), (1600, 1200)):
        image = np.full((height, width, 3), 30, np.uint8)
        longer = max(width, height)
        image[longer // 4 : longer // 2, longer // 4 : longer // 2] = 220
        found = places(features_of(image))
        corners = np.array([(x, y) for x in (0.25, 0.5) for y in (0.25, 0.5)])
        distances = np.linalg.norm(found[:, None] - corners[None], axis=2)
        assert (distances.min(axis=0) < 0.01).all(), "each corner has a point"
        assert (distances.min(axis=1) < 0.04).all(), "there is none elsewhere"


def test_no_part_of_an_image_takes_all_points() -> None:
    image = np.array(load_photographs()[2].resize((400, 400)))
    noise = np.random.default_rng(1).integers(0, 256, (100, 100, 3), dtype=np.uint8)
    image[:100, :100] = noise
    found = places(features_of(image))
    inside = (found < 0.25).all(axis=1).sum()
    assert inside <= 4 * 20 + 20
    assert len(found) - inside > 100


def test_every_size_of_a_model_and_every_way_of_decoding_gives_the_same() -> None:
    for size in ((640, 480), (900, 1800)):
        content = encoded(photograph(2, size), "JPEG", quality=90)
        one = featured(content)
        assert 100 < one.count <= MAX_POINTS
        assert featured(content, 32) == featured(content, 512) == one
        assert featured(content, decoder=ImageDecoder(ImageLimits(), scaled=False)) == one
        assert DECODER.check(content, featured=True).local_features == one
        both = DECODER.prepare(content, square(64), hashed=True, featured=True)
        assert (both.local_features, both.perceptual_hash) == (
            one,
            DECODER.prepare(content, square(64), hashed=True).perceptual_hash,
        )


def test_careful_decoding_gives_the_same(careful: ImageDecoder) -> None:
    """Within its memory, of which OpenCV's own is no part."""
    image = photograph(3, (500, 400))
    bmp, png = encoded(image, "BMP"), encoded(image)
    assert featured(bmp, decoder=careful) == featured(png)
    assert careful.check(bmp, featured=True).local_features == featured(png)


def test_a_large_jpeg_is_looked_at_at_a_part_of_its_size() -> None:
    content = encoded(photograph(0, (2000, 1500)), "JPEG", quality=90)
    assert jpeg_part(1500, 2000) == 2
    assert alike(featured(content), of(DECODER.check(content).image)) > 200


def test_who_does_not_ask_gets_none() -> None:
    content = encoded(photograph(0, (64, 48)))
    assert DECODER.prepare(content, square(32)).local_features is None
    assert DECODER.check(content).local_features is None


@pytest.mark.parametrize("number", STORED)
def test_orientation_is_undone_first(number: int) -> None:
    image = photograph(1, (480, 300))
    upright = of(image)
    stored = STORED[number](image)
    for content in (
        encoded(stored, "PNG", exif=oriented(number)),
        encoded(stored, "JPEG", quality=95, subsampling=0, exif=oriented(number)),
    ):
        found = featured(content)
        assert alike(found, upright) > 150
        # At the same places, not only under some homography.
        distances = np.linalg.norm(places(found)[:, None] - places(upright)[None], axis=2)
        assert np.median(distances.min(axis=1)) < 0.002


def test_transparency_is_seen_as_the_policy_shows_it() -> None:
    image = photograph(2, (300, 300)).convert("RGBA")
    image.paste((0, 0, 0, 0), (40, 30, 250, 170))
    flat = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    white = DECODER.prepare(encoded(image), square(64), transparency=Transparency.WHITE, featured=True)
    assert white.local_features == of(flat)
    assert featured(encoded(image)) == of(image.convert("RGB")) != of(flat)


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (1, 200), (200, 1), (5000, 25), (64, 64), (2000, 900)])
def test_an_image_of_any_shape_has_some_or_none(size: tuple[int, int]) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    made = features_of(noise)
    assert len(made.points) == 4 * made.count
    assert len(made.descriptors) == 32 * made.count
    assert made.count <= MAX_POINTS
    assert (places(made) <= 1).all()
    assert features_of(np.full((size[1], size[0], 3), 130, np.uint8)) == LocalFeatures()
    assert features_of(noise) == made, "the same again"


def test_answers_fit_into_messages() -> None:
    assert MAX_BYTES + 4 * 2048 < ANSWER_BYTES
    assert answers_in(10 * ANSWER_BYTES) == 10
    assert answers_in(1) == 1
    check_answer_size(10, 10 * ANSWER_BYTES)
    with pytest.raises(InvalidInput, match=r"11 images.*: 10 would fit") as caught:
        check_answer_size(11, 10 * ANSWER_BYTES)
    assert caught.value.metadata["fits"] == "10"


def test_opencv_starts_no_threads_and_says_nothing() -> None:
    code = (
        "import sys, numpy as np\n"
        "from pathlib import Path\n"
        "from lensmesh_inference.images import local_features\n"
        "assert 'cv2' not in sys.modules\n"
        "local_features.opencv()\n"
        "before = len(list(Path('/proc/self/task').iterdir()))\n"
        "local_features.features_of(np.random.default_rng(1).integers(0, 256, (900, 900, 3), dtype=np.uint8))\n"
        "print(len(list(Path('/proc/self/task').iterdir())) - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_it_is_known_to_be_installed_while_a_thread_imports_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenCV takes its own module away for a moment then, and leaves one without a spec."""
    monkeypatch.setitem(sys.modules, "cv2", ModuleType("cv2"))
    assert supported()


def test_opencv_that_cannot_be_imported_is_said(careful: ImageDecoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the caller's process, whoever decodes."""
    monkeypatch.setitem(sys.modules, "cv2", None)
    opencv.cache_clear()
    try:
        for content in (encoded(photograph(3, (50, 40)), "BMP"), encoded(photograph(3, (50, 40)))):
            with pytest.raises(PreconditionFailed, match=r"install lensmesh\[match\]") as caught:
                featured(content, decoder=careful)
            assert caught.value.reason is Reason.LOCAL_FEATURES_UNSUPPORTED
            with pytest.raises(PreconditionFailed):
                careful.check(content, featured=True)
            assert careful.check(content).image.size == (50, 40)
    finally:
        opencv.cache_clear()
