"""The images of a demo: drawn scenes whose facts are known, or the user's own."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lensmesh_shapes.facts import Facts, Scene

SIDES_PX = (96, 640)
SUFFIXES = ("jpg", "png", "webp")
QUALITY = 85
# Scenes that no training has seen, and not those of the model card either.
SCENE_SEED = 77


@dataclass(frozen=True, slots=True)
class DemoImage:
    """An image of the demo."""

    path: Path
    metadata: dict[str, object]
    scene: Scene | None = None
    """The drawn scene; None for an image of the user's own."""

    @property
    def facts(self) -> Facts | None:
        """The facts of the scene, None where they are not known."""
        return None if self.scene is None else self.scene.facts

    @property
    def words(self) -> str:
        """The facts in plain English, "" where they are not known."""
        from lensmesh_shapes import caption

        return "" if self.scene is None else caption(self.scene.facts)


def draw_scenes(count: int, folder: Path) -> list[DemoImage]:
    """Draw scenes of distinct facts as JPEG, PNG and WebP files of mixed sizes. They are the same every time."""
    import numpy as np

    from lensmesh_shapes import draw, held_out_scenes

    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(SCENE_SEED)
    samples = []
    for number, scene in enumerate(held_out_scenes(count, SCENE_SEED)):
        side = int(rng.integers(SIDES_PX[0], SIDES_PX[1] + 1))
        suffix = SUFFIXES[number % len(SUFFIXES)]
        path = folder / f"scene{number:04d}.{suffix}"
        draw(scene, side).save(path, quality=QUALITY)
        samples.append(DemoImage(path, _said(scene, side, suffix), scene))
    return samples


def _said(scene: Scene, side: int, suffix: str) -> dict[str, object]:
    groups = [group for group in (scene.facts.first, scene.facts.second) if group is not None]
    return {
        "format": suffix,
        "side_px": side,
        "colours": [group.colour for group in groups],
        "shapes": [group.shape for group in groups],
        "objects": sum(group.count for group in groups),
    }


def own_images(folder: Path, count: int) -> list[DemoImage]:
    """Return the first `count` images of a folder and the folders below it.

    What is no file, or too large, is reported and left out.
    """
    from lensmesh_chassis.files import stat_file
    from lensmesh_cli.console import note
    from lensmesh_cli.disk import Disk, explain
    from lensmesh_cli.printable import printable
    from lensmesh_cli.reading import MOST_BYTES
    from lensmesh_cli.sources import Problem, Walk

    samples: list[DemoImage] = []
    with Disk() as disk:
        for found in Walk([folder], disk):
            if len(samples) == count:
                break
            path = found.path
            try:
                if isinstance(found, Problem):
                    raise found.error
                facts = disk.run(functools.partial(stat_file, path, MOST_BYTES))
            except OSError as error:
                error.filename = None
                note(f"passed over: {printable(str(path))}: {explain(error)}")
                continue
            said = {
                "format": path.suffix.lower().lstrip(".") or "none",
                "folder": path.parent.name,
                "bytes": facts.st_size,
            }
            samples.append(
                DemoImage(path, {name: printable(str(v)) if isinstance(v, str) else v for name, v in said.items()})
            )
    return samples


def redrawn(sample: DemoImage, folder: Path) -> Path:
    """Draw the same facts again, with other places and another background. The result is no stored file."""
    from lensmesh_shapes import Scene, draw

    if sample.scene is None:
        return sample.path
    path = folder / "asked.png"
    draw(Scene(sample.scene.facts, sample.scene.seed + 1), 320).save(path)
    return path
