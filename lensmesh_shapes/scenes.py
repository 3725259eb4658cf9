"""Drawing of a scene as an image of any size: deterministic, with PIL and NumPy alone.

Lengths are fractions of the image's side, so one scene looks alike at every size. Only the pixel noise depends on the
size asked for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from lensmesh_shapes.facts import Facts, Group, Scene

Point = tuple[float, float]
Box = tuple[float, float, float, float]

DIAMETERS = {"small": (0.14, 0.155), "large": (0.215, 0.235)}
"""Range of a shape's diameter; at 64 pixels, 9 to 10 pixels and 14 to 15 pixels."""

RGB = {
    "red": (220, 30, 35), "orange": (250, 135, 15), "yellow": (245, 225, 30),
    "green": (35, 155, 55), "cyan": (40, 205, 215), "blue": (35, 65, 215),
    "purple": (130, 45, 175), "pink": (252, 125, 190), "brown": (122, 74, 36),
    "black": (22, 22, 24),
}  # fmt: skip

GRIDS = {
    1: ((1, 1),), 2: ((2, 1), (1, 2)), 3: ((3, 1), (1, 3), (2, 2)), 4: ((2, 2), (4, 1), (1, 4)),
}  # fmt: skip
"""Columns and rows in which a group of so many shapes may stand."""


def _arc(radius: float, start: float, stop: float, steps: int, centre: Point) -> list[Point]:
    angles = (start + (stop - start) * step / steps for step in range(steps + 1))
    return [(centre[0] + radius * math.cos(angle), centre[1] + radius * math.sin(angle)) for angle in angles]


def _outlines() -> dict[str, list[Point]]:
    """Return each shape as one polygon within the unit circle, y pointing down."""
    turn, middle = 2 * math.pi, (0.0, 0.0)
    circle = _arc(1.0, 0.0, turn, 28, middle)
    star = [
        (radius * math.sin(turn * tip / 10), -radius * math.cos(turn * tip / 10))
        for tip, radius in zip(range(10), (1.0, 0.44) * 5, strict=True)
    ]
    arm, reach = 0.34, 0.96
    cross = [
        (-arm, -reach), (arm, -reach), (arm, -arm), (reach, -arm), (reach, arm), (arm, arm),
        (arm, reach), (-arm, reach), (-arm, arm), (-reach, arm), (-reach, -arm), (-arm, -arm),
    ]  # fmt: skip
    # The bite's circle meets the unit circle at +-50 degrees; both arcs start and end there.
    tip = math.radians(50)
    bite_x = 0.42
    bite_tip = math.atan2(math.sin(tip), math.cos(tip) - bite_x)
    bite_radius = math.hypot(math.cos(tip) - bite_x, math.sin(tip))
    crescent = _arc(1.0, tip, turn - tip, 20, middle)
    crescent += _arc(bite_radius, turn - bite_tip, bite_tip, 16, (bite_x, 0.0))
    return {
        "circle": circle,
        "square": [(-0.86, -0.86), (0.86, -0.86), (0.86, 0.86), (-0.86, 0.86)],
        "triangle": [(0.0, -0.98), (1.0, 0.8), (-1.0, 0.8)],
        "diamond": [(0.0, -1.0), (0.78, 0.0), (0.0, 1.0), (-0.78, 0.0)],
        "star": star,
        "cross": cross,
        # One closed outline: around the rim, then back around the hole.
        "ring": circle + _arc(0.55, turn, 0.0, 20, middle),
        "crescent": [(x + 0.1, y) for x, y in crescent],
    }


OUTLINES = _outlines()


@dataclass(frozen=True, slots=True)
class Placed:
    """A group laid out: shape centres, their shared diameter and their turn in radians."""

    group: Group
    centres: tuple[Point, ...]
    diameter: float
    turn: float


def _place_group(group: Group, panel: Box, spread: Point, rng: np.random.Generator) -> Placed:
    """Stand a group on a loose grid inside a panel, its middle up to `spread` off the panel's."""
    left, top, right, bottom = panel
    width, height = right - left, bottom - top
    low, high = DIAMETERS[group.size or "large"]
    diameter = low + (high - low) * rng.random()
    pitch = diameter + 0.01
    grids = [grid for grid in GRIDS[group.count] if grid[0] * pitch <= width and grid[1] * pitch <= height]
    columns, rows = grids[int(rng.integers(len(grids)))]
    step_x = min(pitch * (1 + 0.3 * rng.random()), width / columns)
    step_y = min(pitch * (1 + 0.3 * rng.random()), height / rows)
    slack_x, slack_y = (width - columns * step_x) / 2, (height - rows * step_y) / 2
    middle_x = (left + right) / 2 + min(spread[0], slack_x) * rng.uniform(-1, 1)
    middle_y = (top + bottom) / 2 + min(spread[1], slack_y) * rng.uniform(-1, 1)
    cells = [(column, row) for row in range(rows) for column in range(columns)]
    if len(cells) > group.count:
        del cells[int(rng.integers(len(cells)))]
    shake_x, shake_y = (step_x - pitch) / 2, (step_y - pitch) / 2
    centres = tuple(
        (
            middle_x + (column - (columns - 1) / 2) * step_x + shake_x * rng.uniform(-1, 1),
            middle_y + (row - (rows - 1) / 2) * step_y + shake_y * rng.uniform(-1, 1),
        )
        for column, row in cells
    )
    return Placed(group, centres, diameter, math.radians(8) * rng.uniform(-1, 1))


def layout(scene: Scene) -> tuple[Placed, ...]:
    """Return where the scene's groups stand, the canonical first group first.

    Two groups have half the image each. Their middles stay nearer across the relation than along it, so that 'left of'
    can never be read as 'above'.
    """
    rng = np.random.default_rng((scene.seed, 0))
    facts: Facts = scene.facts.canonical()
    edge, half = 0.008, 0.5
    if facts.second is None:
        return (_place_group(facts.first, (edge, edge, 1 - edge, 1 - edge), (0.3, 0.3), rng),)
    if facts.relation == "left of":
        panels = ((edge, edge, half, 1 - edge), (half, edge, 1 - edge, 1 - edge))
        spread = (0.06, 0.12)
    else:
        panels = ((edge, edge, 1 - edge, half), (edge, half, 1 - edge, 1 - edge))
        spread = (0.12, 0.06)
    return (
        _place_group(facts.first, panels[0], spread, rng),
        _place_group(facts.second, panels[1], spread, rng),
    )


def _background(rng: np.random.Generator, size_px: int) -> NDArray[np.float32]:
    """Draw a pale plain, graded, striped or chequered ground, [size_px, size_px, 3] in 0..255."""
    pattern: NDArray[np.floating]
    base = rng.uniform(175, 250) + rng.uniform(-14, 14, 3)
    kind, strength = int(rng.integers(5)), rng.uniform(5, 13)
    angle, period, phase = rng.uniform(0, math.pi), rng.uniform(0.06, 0.3), rng.uniform(0, 1)
    axis = (np.arange(size_px, dtype=np.float32) + 0.5) / size_px
    along = axis[None, :] * math.cos(angle) + axis[:, None] * math.sin(angle)
    if kind <= 1:
        pattern = np.zeros((size_px, size_px), np.float32)
    elif kind == 2:
        pattern = 2 * along - 1
    elif kind == 3:
        pattern = np.sin(2 * math.pi * (along / period + phase))
    else:
        cells = np.floor(axis / period + phase)
        pattern = 2 * ((cells[None, :] + cells[:, None]) % 2) - 1
    ground: NDArray[np.float32] = (base + (strength * pattern)[:, :, None]).astype(np.float32)
    return ground


def _paste(image: Image.Image, placed: Placed, ink: tuple[int, ...]) -> None:
    """Draw a group onto the image: its box only, drawn larger and averaged for smooth edges."""
    size_px = image.width
    finer = 4 if size_px <= 96 else 2
    reach = placed.diameter / 2 + 1 / size_px
    xs, ys = zip(*placed.centres, strict=True)
    left, right = (int(max(0.0, edge) * size_px) for edge in (min(xs) - reach, max(xs) + reach))
    top, bottom = (int(max(0.0, edge) * size_px) for edge in (min(ys) - reach, max(ys) + reach))
    mask = Image.new("L", ((right - left + 1) * finer, (bottom - top + 1) * finer))
    pen, scale, radius = ImageDraw.Draw(mask), size_px * finer, placed.diameter / 2
    cos, sin = radius * math.cos(placed.turn), radius * math.sin(placed.turn)
    outline = [(x * cos - y * sin, x * sin + y * cos) for x, y in OUTLINES[placed.group.shape]]
    for centre_x, centre_y in placed.centres:
        # PIL puts coordinates at pixel centres, hence the half pixel.
        from_x, from_y = centre_x * scale - left * finer - 0.5, centre_y * scale - top * finer - 0.5
        pen.polygon([(from_x + x * scale, from_y + y * scale) for x, y in outline], fill=255)
    image.paste(ink, (left, top), mask.reduce(finer))


def draw(scene: Scene, size_px: int) -> Image.Image:
    """Draw the scene as an RGB image of size_px x size_px pixels; equal arguments give equal pixels."""
    rng = np.random.default_rng((scene.seed, 1))
    image = Image.fromarray(_background(rng, size_px).clip(0, 255).astype(np.uint8))
    for placed in layout(scene):
        ink = np.clip(np.array(RGB[placed.group.colour]) + rng.uniform(-10, 10, 3), 0, 255)
        _paste(image, placed, tuple(int(value) for value in ink))
    blur, noise = max(0.0, rng.uniform(-0.008, 0.008)), max(0.0, rng.uniform(-8, 8))
    if blur:
        image = image.filter(ImageFilter.GaussianBlur(blur * size_px))
    if noise:
        grain = rng.standard_normal((size_px, size_px, 3), dtype=np.float32)
        noisy = np.asarray(image, dtype=np.float32) + noise * grain
        image = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
    return image
