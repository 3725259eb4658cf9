"""The size that one model wants of an image, and how it gets there.

Imports no torch, so that it can be sent to processes.

The numbers are those of the libraries that models are trained and published with: open_clip's `image_transform` with
torchvision's `Resize` and `CenterCrop` in it, and transformers' image processors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, cast

from lensmesh_inference.images.normalize import Normalize, PerChannel

Fit: TypeAlias = Literal["shortest", "longest", "squash"]
Filter: TypeAlias = Literal["bicubic", "bilinear"]
_PILLOW_FILTERS: Final[Mapping[int, Filter]] = {2: "bilinear", 3: "bicubic"}


class UnknownTransformError(ValueError):
    """A configuration that is not reproduced here. The library's own code has to be used for it."""


@dataclass(frozen=True)
class Transform:
    """The rule that turns an image of any size into one of `height` x `width`.

    `fit` tells how: "shortest" scales the side that is relatively shorter and crops the rest around the middle,
    "longest" scales the longer one and pads with `fill`, "squash" scales both sides on their own.
    """

    height: int
    width: int
    fit: Fit
    filter: Filter
    fill: int = 0

    @classmethod
    def from_open_clip(cls, config: Mapping[str, Any]) -> Transform:
        """Read the fields of open_clip's `PreprocessCfg`. Raises ``UnknownTransformError``."""
        height, width = _both_sides(config["size"])
        fit = config.get("resize_mode") or "shortest"
        interpolation = config.get("interpolation") or "bicubic"
        if fit not in ("shortest", "longest", "squash") or interpolation not in ("bicubic", "bilinear", "random"):
            raise UnknownTransformError(f"resize_mode {fit!r}, interpolation {interpolation!r}")
        if config.get("mode", "RGB") != "RGB":
            raise UnknownTransformError(f"mode {config['mode']!r}")
        # open_clip passes its interpolation on in all cases but this one.
        always_bicubic = fit == "shortest" and height != width
        chosen: Filter = "bilinear" if interpolation == "bilinear" and not always_bicubic else "bicubic"
        return cls(height, width, cast(Fit, fit), chosen, int(config.get("fill_color") or 0))

    @classmethod
    def from_processor(cls, config: Mapping[str, Any]) -> Transform:
        """Read the fields of a transformers image processor that squashes. Raises ``UnknownTransformError``."""
        size = config.get("size") or {}
        filter_ = _PILLOW_FILTERS.get(int(config.get("resample") or 0))
        extras = [name for name in ("do_center_crop", "do_pad") if config.get(name)]
        if not config.get("do_resize") or set(size) != {"height", "width"} or filter_ is None or extras:
            raise UnknownTransformError(f"size {dict(size)}, resample {config.get('resample')}, {extras}")
        return cls(int(size["height"]), int(size["width"]), "squash", filter_)

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width to which such an image is scaled, before cropping or padding."""
        if self.fit == "squash":
            return self.height, self.width
        if self.fit == "shortest" and self.height == self.width:
            # torchvision's Resize, which cuts the longer side's fraction off.
            side = self.height
            return (side, int(side * width / height)) if height <= width else (int(side * height / width), side)
        ratios = (height / self.height, width / self.width)
        ratio = max(ratios) if self.fit == "longest" else min(ratios)
        # An image much longer than wide would lose its short side altogether, and open_clip would fail.
        return max(1, round(height / ratio)), max(1, round(width / ratio))


def normalize_of_open_clip(config: Mapping[str, Any]) -> Normalize:
    """Read the normalization of open_clip's `PreprocessCfg`."""
    return Normalize(_per_channel(config["mean"]), _per_channel(config["std"]))


def normalize_of_processor(config: Mapping[str, Any]) -> Normalize:
    """Read the normalization of a transformers image processor."""
    rescale = float(config["rescale_factor"]) if config.get("do_rescale") else 1.0
    if not config.get("do_normalize"):
        return Normalize(rescale=rescale)
    return Normalize(_per_channel(config["image_mean"]), _per_channel(config["image_std"]), rescale)


def _both_sides(size: int | Sequence[int]) -> tuple[int, int]:
    if isinstance(size, int):
        return size, size
    sides = [int(side) for side in size]
    return sides[0], sides[-1]


def _per_channel(values: float | Sequence[float]) -> PerChannel:
    if isinstance(values, int | float):
        return float(values), float(values), float(values)
    red, green, blue = (float(value) for value in values)
    return red, green, blue
