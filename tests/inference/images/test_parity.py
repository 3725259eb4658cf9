"""Prepared images are those of the libraries' own transforms, but for the rounding of some grey levels."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
import open_clip
import pytest
import torch
import transformers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image, ImageOps

import lensmesh_shapes
from lensmesh_inference.images.limits import FORMATS, ImageLimits
from lensmesh_inference.images.prepare import prepare
from lensmesh_inference.images.transform import (
    Transform,
    UnknownTransformError,
    normalize_of_open_clip,
    normalize_of_processor,
)
from tests.inference.images.encoded import STORED, encoded, noise, oriented, photograph

LIMITS = ImageLimits()
# Mean differences, of 255. Images are scaled along one axis, rounded to bytes, and scaled along the other; which
# comes first is Pillow's choice by version and shape, and another choice rounds other bytes.
SAME_ORDER, OTHER_ORDER = 0.02, 0.4
# On photographs, decoded at a half, a quarter or an eighth of their size.
PART = 0.7
Numbers = npt.NDArray[np.float32]
hub: Any = transformers


def upright(content: bytes) -> Image.Image:
    with Image.open(io.BytesIO(content)) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


def differences(content: bytes, config: dict[str, Any], *, scaled: bool = True) -> Numbers:
    """How far each number is from open_clip's own, in grey levels."""
    expected: torch.Tensor = image_transform_v2(PreprocessCfg(**config), is_train=False)(upright(content))
    normalize = normalize_of_open_clip(config)
    pixels = prepare(content, Transform.from_open_clip(config), LIMITS, scaled=scaled).pixels
    assert pixels.dtype == torch.uint8
    assert pixels.is_contiguous()
    assert pixels.shape == expected.shape
    ours = normalize.apply(pixels.unsqueeze(0), torch.float32)[0]
    levels: Numbers = ((ours - expected).abs() / torch.tensor(normalize.scale).view(3, 1, 1)).numpy()
    return levels


def config(**changes: Any) -> dict[str, Any]:
    return {"size": 224, "mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD} | changes


def configs_of_open_clip() -> list[dict[str, Any]]:
    """All ways to preprocess that open_clip's pretrained models ask for, at a size that costs little."""
    keys = ("mean", "std", "interpolation", "resize_mode")
    found = {
        tuple((key, tuple(facts[key]) if key in keys[:2] else facts[key]) for key in keys if facts.get(key))
        for name, tag in open_clip.list_pretrained()
        for facts in [open_clip.get_pretrained_cfg(name, tag)]
    }
    return [config(size=48, **dict(one)) for one in sorted(found, key=repr)]


@pytest.mark.parametrize("one", configs_of_open_clip(), ids=str)
@pytest.mark.parametrize("size", [(100, 75), (33, 97)])
def test_every_configuration_that_open_clip_knows(one: dict[str, Any], size: tuple[int, int]) -> None:
    got = differences(encoded(photograph(0, size)), one)
    assert got.mean() < (SAME_ORDER if size == (100, 75) else OTHER_ORDER)


@pytest.mark.parametrize("resize_mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "random"])
@pytest.mark.parametrize("target", [32, (32, 32), (24, 40), (40, 24)])
@pytest.mark.parametrize("size", [(64, 48), (48, 64), (20, 90), (7, 5), (32, 32)])
def test_every_way_to_resize(resize_mode: str, interpolation: str, target: Any, size: tuple[int, int]) -> None:
    one = config(size=target, resize_mode=resize_mode, interpolation=interpolation, fill_color=117)
    # Noise forgives no shift: half a column would be tens of levels.
    assert differences(encoded(noise(size=size)), one).mean() < OTHER_ORDER


@settings(max_examples=150, deadline=None)
@given(
    width=st.integers(1, 300),
    height=st.integers(1, 300),
    target=st.tuples(st.integers(1, 64), st.integers(1, 64)),
    resize_mode=st.sampled_from(["shortest", "longest", "squash"]),
    interpolation=st.sampled_from(["bicubic", "bilinear"]),
    orientation=st.sampled_from(list(STORED)),
)
@example(1, 200, (224, 224), "shortest", "bicubic", 6)
@example(200, 1, (224, 224), "shortest", "bilinear", 1)
@example(1, 1, (224, 224), "longest", "bicubic", 8)
@example(200, 1, (64, 64), "longest", "bicubic", 1)
def test_any_size_becomes_any_other(
    width: int, height: int, target: tuple[int, int], resize_mode: str, interpolation: str, orientation: int
) -> None:
    """The limits keep sides below 200 to 1, as they do for callers."""
    width, height = min(width, 200 * height), min(height, 200 * width)
    content = encoded(STORED[orientation](noise(size=(width, height))), exif=oriented(orientation))
    one = config(size=target, resize_mode=resize_mode, interpolation=interpolation)
    transform = Transform.from_open_clip(one)
    if 0 in [round(side / max(height / target[0], width / target[1])) for side in (height, width)]:
        # Here open_clip itself fails; ours keeps one row.
        assert prepare(content, transform, LIMITS).pixels.shape == (3, *target)
        return
    # Few pixels are left in some, so that one that is rounded otherwise counts for more.
    assert differences(content, one).mean() < 3 * OTHER_ORDER


MODES = ("RGB", "L", "P", "RGBA", "LA", "CMYK", "1")
NOT_IN = {"JPEG": {"P", "RGBA", "LA"}, "BMP": {"LA", "CMYK"}, "PNG": {"CMYK"}, "GIF": {"CMYK"}}


@pytest.mark.parametrize(
    ("format_", "mode"), [(one, mode) for one in FORMATS for mode in MODES if mode not in NOT_IN.get(one, ())]
)
def test_every_format_and_mode(format_: str, mode: str) -> None:
    content = encoded(photograph(1, (90, 70)).convert(mode), format_)
    assert differences(content, config(size=40)).mean() < SAME_ORDER


@pytest.mark.parametrize("orientation", list(STORED))
@pytest.mark.parametrize("format_", ["JPEG", "PNG"])
@pytest.mark.parametrize("target", [40, (48, 30)])
@pytest.mark.parametrize("resize_mode", ["shortest", "longest", "squash"])
def test_every_orientation(orientation: int, format_: str, target: Any, resize_mode: str) -> None:
    # An odd rest to crop: the middle of what lies on its side is not the middle of what stands.
    image = STORED[orientation](photograph(2, (101, 76)))
    content = encoded(image, format_, exif=oriented(orientation))
    assert differences(content, config(size=target, resize_mode=resize_mode)).mean() < OTHER_ORDER


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_rows": 1}])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_jpeg_files_of_every_make(options: dict[str, Any], mode: str) -> None:
    content = encoded(photograph(3, (301, 203)).convert(mode), "JPEG", quality=90, **options)
    assert differences(content, config(size=96)).mean() < SAME_ORDER


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("size", [(640, 480), (1300, 900), (2001, 1501)])
@pytest.mark.parametrize("orientation", [1, 8])
def test_photographs_decoded_at_a_part_of_their_size(number: int, size: tuple[int, int], orientation: int) -> None:
    image = STORED[orientation](photograph(number, size))
    content = encoded(image, "JPEG", quality=90, exif=oriented(orientation))
    assert differences(content, config()).mean() < PART
    if size[0] < 1300:
        return
    whole = differences(content, config(), scaled=False)
    assert whole.mean() < (SAME_ORDER if orientation == 1 else OTHER_ORDER)
    # Otherwise this test shows nothing: it was indeed decoded at a part.
    assert differences(content, config()).mean() > 1.2 * whole.mean()


def test_vectors_of_photographs_decoded_at_a_part_of_their_size() -> None:
    model, transform = open_clip.create_model_from_pretrained(f"local-dir:{lensmesh_shapes.CLIP_DIR}")
    one = model.visual.preprocess_cfg
    contents = [encoded(photograph(number, (1279, 853)), "JPEG", quality=90) for number in range(6)]
    expected = torch.stack([transform(upright(content)) for content in contents])
    pixels = torch.stack([prepare(content, Transform.from_open_clip(one), LIMITS).pixels for content in contents])
    with torch.inference_mode():
        theirs = model.encode_image(expected, normalize=True)
        ours = model.encode_image(normalize_of_open_clip(one).apply(pixels, torch.float32), normalize=True)
    assert float((theirs * ours).sum(dim=1).min()) >= 0.9995


@pytest.mark.parametrize("resample", [2, 3])
@pytest.mark.parametrize("normalized", [True, False])
def test_transformers_own_processor(resample: int, normalized: bool) -> None:
    size = {"height": 48, "width": 40}
    processor = hub.BlipImageProcessor(size=size, resample=resample, do_normalize=normalized)
    folder_config = processor.to_dict()
    normalize = normalize_of_processor(folder_config)
    content = encoded(photograph(4, (120, 95)))
    expected = _pillow_processor(processor)(images=upright(content), return_tensors="pt")["pixel_values"][0]
    pixels = prepare(content, Transform.from_processor(folder_config), LIMITS).pixels
    ours = normalize.apply(pixels.unsqueeze(0), torch.float32)[0]
    levels = (ours - expected).abs() / torch.tensor(normalize.scale).view(3, 1, 1)
    assert float(levels.mean()) < SAME_ORDER


def _pillow_processor(processor: Any) -> Any:
    from transformers.models.blip import image_processing_pil_blip

    module: Any = image_processing_pil_blip
    return module.BlipImageProcessorPil(
        **{key: value for key, value in processor.to_dict().items() if key != "image_processor_type"}
    )


@pytest.mark.parametrize("changes", [{"resize_mode": "stretch"}, {"interpolation": "lanczos"}, {"mode": "L"}])
def test_what_open_clip_may_learn_one_day_is_left_to_it(changes: dict[str, Any]) -> None:
    with pytest.raises(UnknownTransformError, match=str(next(iter(changes.values())))):
        Transform.from_open_clip(config(**changes))


@pytest.mark.parametrize(
    "changes", [{"resample": 1}, {"do_resize": False}, {"size": {"shortest_edge": 384}}, {"do_center_crop": True}]
)
def test_what_another_processor_does_is_left_to_it(changes: dict[str, Any]) -> None:
    with pytest.raises(UnknownTransformError):
        Transform.from_processor(hub.BlipImageProcessor().to_dict() | changes)
