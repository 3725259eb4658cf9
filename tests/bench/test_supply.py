"""Inputs that are no two alike, and cost the same."""

import io
import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lensmesh_cli.load import supply


def jpeg(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 30), colour).save(file, "JPEG")
    return file.getvalue()


def test_a_comment_changes_the_bytes_and_not_a_pixel() -> None:
    plain = jpeg("red")
    first, second = supply.distinct(plain, 1), supply.distinct(plain, 2)
    assert len({plain, first, second}) == 3
    pixels = [np.asarray(Image.open(io.BytesIO(content))) for content in (plain, first, second)]
    assert all((one == pixels[0]).all() for one in pixels)
    with pytest.raises(ValueError, match="JPEG"):
        supply.distinct(b"\x89PNG", 1)


def test_images_never_come_twice(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg("red"))
    Image.new("RGBA", (20, 20), "blue").save(tmp_path / "b.png")
    contents = supply.read(sorted(tmp_path.iterdir()))
    seen = [*itertools.islice(supply.images(contents, 1), 50), *itertools.islice(supply.images(contents, 2), 50)]
    assert len(set(seen)) == 100
    assert Image.open(io.BytesIO(seen[1])).format == "JPEG"


@pytest.mark.parametrize("name", ["/dev/zero", "/nowhere/a.jpg", __file__])
def test_a_file_that_is_no_image_is_named(name: str) -> None:
    with pytest.raises(OSError, match=f"^{name}: "):
        supply.read([Path(name)])


def test_texts_are_short_and_never_come_twice() -> None:
    seen = list(itertools.islice(supply.texts(5), 20_000))
    assert len(set(seen)) == 20_000
    assert all(5 <= len(text.split()) <= 15 for text in seen)
