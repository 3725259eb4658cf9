"""Ordinary images of every supported format, small and drawn here. Mutants are made of them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image


def seeds() -> dict[str, bytes]:
    """Build some 35 valid images by name."""
    return dict(_all())


def _all() -> Iterator[tuple[str, bytes]]:
    scene = _scene(160, 120)
    kinds: dict[str, dict[str, Any]] = {
        "baseline": {"quality": 85},
        "progressive": {"quality": 85, "progressive": True},
        "optimized": {"quality": 60, "optimize": True},
        "restarts": {"quality": 80, "restart_marker_blocks": 4},
        "4:4:4": {"quality": 90, "subsampling": 0},
        "exif": {"quality": 80, "exif": _exif(6)},
        "profile": {"quality": 80, "icc_profile": bytes(range(256)) * 12},
        "comment": {"quality": 80, "comment": b"somewhere in the hills"},
    }
    for name, options in kinds.items():
        yield f"jpeg {name}", _saved(scene, "JPEG", **options)
    yield "jpeg grey", _saved(scene.convert("L"), "JPEG")
    yield "jpeg inks", _saved(scene.convert("CMYK"), "JPEG")
    yield "mpo", _saved(scene, "MPO", save_all=True, append_images=[scene.transpose(Image.Transpose.ROTATE_90)])
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
        yield f"png {mode}", _saved(scene.convert(mode), "PNG")
    yield "png 16", _saved(Image.fromarray(np.asarray(scene.convert("L")).astype(np.uint16) * 257), "PNG")
    yield "png text", _saved(scene, "PNG", icc_profile=bytes(range(256)) * 8)
    yield "apng", _saved(scene, "PNG", save_all=True, append_images=[scene.rotate(9), scene.rotate(18)])
    yield "gif", _saved(scene.convert("P"), "GIF")
    yield "gif frames", _saved(scene.convert("P"), "GIF", save_all=True, append_images=[scene.rotate(9).convert("P")])
    kinds = {"lossy": {"quality": 70}, "lossless": {"lossless": True}, "exif": {"exif": _exif(3)}}
    for name, options in kinds.items():
        yield f"webp {name}", _saved(scene, "WEBP", **options)
    yield "webp alpha", _saved(scene.convert("RGBA"), "WEBP")
    yield "webp frames", _saved(scene, "WEBP", save_all=True, append_images=[scene.rotate(9)])
    for mode in ("1", "L", "P", "RGB"):
        yield f"bmp {mode}", _saved(scene.convert(mode), "BMP")
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        yield f"tiff {compression}", _saved(scene, "TIFF", compression=compression)
    yield "tiff 16", _saved(Image.fromarray(np.asarray(scene.convert("L")).astype(np.uint16) * 257), "TIFF")
    yield "tiff float", _saved(Image.fromarray(np.asarray(scene.convert("L")).astype(np.float32) / 255), "TIFF")


def _scene(width: int, height: int) -> Image.Image:
    """Draw something with edges, gradients and noise, as photographs have."""
    rows, columns = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(7).integers(0, 24, (height, width, 3))
    planes = np.stack([rows * 255 // height, columns * 255 // width, ((rows // 9 + columns // 9) % 2) * 180], axis=-1)
    return Image.fromarray(np.clip(planes + noise, 0, 255).astype(np.uint8))


def _exif(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "a camera"
    return exif.tobytes()


def _saved(image: Image.Image, format_: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()
