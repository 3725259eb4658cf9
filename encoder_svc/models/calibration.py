"""Images that int8 is calibrated on: a folder of photographs, or drawn scenes where there is none."""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import torch

import lensmesh_shapes
from lensmesh_chassis.errors import InvalidInput, PreconditionFailed
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.backends.quantization import Calibration

# Ranges settle with some hundred images; more take longer and change little.
MOST_IMAGES: Final = 256
_LEAST_IMAGES: Final = 16
_DRAWN: Final = 128
_DRAWN_PX: Final = 320
# Not the scenes that figures are measured on.
_DRAWN_SEED: Final = 4
_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".webp"})
_log = logging.getLogger(__name__)


def calibration(folder: str, prepare: Callable[[bytes], torch.Tensor]) -> Calibration:
    """Return the inputs that int8 is calibrated on; `prepare` makes a model's input of an encoded image.

    `folder` is the setting `calibration_dir`; where it is empty, drawn scenes are taken. Of a folder the first
    `MOST_IMAGES` images by name are taken. Their content is part of the calibration's name, because vectors depend on
    it. Raises ``PreconditionFailed`` for a folder with too few images.
    """
    if not folder:
        _log.warning(
            "int8 is calibrated on %d drawn scenes, which real photographs may differ from: set "
            "LENSMESH_ENCODER_CALIBRATION_DIR to a folder with some hundred typical images",
            _DRAWN,
        )
        return Calibration("scenes-1", lambda: (prepare(content).unsqueeze(0) for content in _scenes()))
    paths = _images(Path(folder).expanduser())
    digest = hashlib.sha256()
    for path in paths:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return Calibration(digest.hexdigest()[:16], lambda: _readable(paths, prepare))


def _scenes() -> Iterator[bytes]:
    for scene in lensmesh_shapes.held_out_scenes(_DRAWN, _DRAWN_SEED):
        file = io.BytesIO()
        lensmesh_shapes.draw(scene, _DRAWN_PX).save(file, "JPEG", quality=90)
        yield file.getvalue()


def _images(folder: Path) -> list[Path]:
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES) if folder.is_dir() else []
    if len(paths) < _LEAST_IMAGES:
        raise PreconditionFailed(
            Reason.OPTION_INVALID,
            f"calibration_dir {folder} holds {len(paths)} images ({', '.join(sorted(_SUFFIXES))}): put at least "
            f"{_LEAST_IMAGES} typical ones there, or leave the setting empty to use drawn scenes.",
            field="calibration_dir",
        )
    return paths[:MOST_IMAGES]


def _readable(paths: Iterable[Path], prepare: Callable[[bytes], torch.Tensor]) -> Iterator[torch.Tensor]:
    for path in paths:
        try:
            yield prepare(path.read_bytes()).unsqueeze(0)
        except InvalidInput as error:
            _log.warning("%s is left out of the calibration: %s", path, error.message)
