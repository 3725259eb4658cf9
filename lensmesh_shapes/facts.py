"""Facts of a scene: one or two groups of like shapes, and how two groups relate."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

SHAPES = ("circle", "square", "triangle", "diamond", "star", "cross", "ring", "crescent")
COLOURS = (
    "red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink", "brown", "black",
)  # fmt: skip
SIZES = ("small", "large")
COUNTS = (1, 2, 3, 4)
RELATIONS = ("left of", "right of", "above", "below")
MIRRORED = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
CANONICAL_RELATIONS = ("left of", "above")

HELD_OUT_SEED = 20_240
HELD_OUT_SHARE = 20
"""Number of fact sets of which one is held out of training."""


@dataclass(frozen=True, slots=True)
class Group:
    """`count` like shapes drawn close together; a caption may leave `size` unsaid (None)."""

    count: int
    size: str | None
    colour: str
    shape: str


@dataclass(frozen=True, slots=True)
class Facts:
    """A single group, or a group, its relation to a second group, and that second group."""

    first: Group
    relation: str | None = None
    second: Group | None = None

    def __post_init__(self) -> None:
        if (self.relation is None) != (self.second is None):
            raise ValueError("a relation and a second group come together or not at all")

    def mirrored(self) -> Facts:
        """Return the same scene told from the other group: 'A left of B' becomes 'B right of A'."""
        if self.second is None or self.relation is None:
            return self
        return Facts(self.second, MIRRORED[self.relation], self.first)

    def canonical(self) -> Facts:
        """Return the one form in which the relation is 'left of' or 'above'."""
        if self.relation is None or self.relation in CANONICAL_RELATIONS:
            return self
        return self.mirrored()


@dataclass(frozen=True, slots=True)
class Scene:
    """Facts, and the seed from which their placing, background, noise and blur are drawn."""

    facts: Facts
    seed: int


def same_facts(one: Facts | None, other: Facts | None) -> bool:
    """Tell whether both state the same facts; a mirrored relation is the same fact."""
    return one is not None and other is not None and one.canonical() == other.canonical()


def is_held_out(facts: Facts) -> bool:
    """Tell whether training never sees these facts, in any wording or drawing.

    A checksum of the canonical facts decides. So the split needs no stored list, and every seed of every sampler agrees
    on it.
    """
    return zlib.crc32(repr(facts.canonical()).encode()) % HELD_OUT_SHARE == 0


def sample_group(rng: np.random.Generator) -> Group:
    """Draw a group, every fact with equal chances."""
    count, size, colour, shape = (int(rng.integers(len(choices))) for choices in (COUNTS, SIZES, COLOURS, SHAPES))
    return Group(COUNTS[count], SIZES[size], COLOURS[colour], SHAPES[shape])


def tellable(facts: Facts) -> bool:
    """Tell whether the two groups differ in more than count, so that a viewer can tell them apart."""
    one, two = facts.first, facts.second
    return two is None or (one.size, one.colour, one.shape) != (two.size, two.colour, two.shape)


def sample_facts(rng: np.random.Generator, singles: float = 0.15) -> Facts:
    """Draw canonical facts, of one group with probability `singles` and of two otherwise."""
    if rng.random() < singles:
        return Facts(sample_group(rng))
    while True:
        relation = CANONICAL_RELATIONS[int(rng.integers(2))]
        facts = Facts(sample_group(rng), relation, sample_group(rng))
        if tellable(facts):
            return facts


def sample_scene(rng: np.random.Generator, held_out: bool = False) -> Scene:
    """Draw a scene from the training split, or from the held-out split."""
    while True:
        facts = sample_facts(rng)
        if is_held_out(facts) == held_out:
            return Scene(facts, int(rng.integers(2**63)))


def held_out_scenes(count: int, seed: int = HELD_OUT_SEED) -> list[Scene]:
    """Draw `count` scenes of distinct facts that training never sees, the same for a given seed."""
    rng = np.random.default_rng(seed)
    scenes: dict[Facts, Scene] = {}
    while len(scenes) < count:
        scene = sample_scene(rng, held_out=True)
        scenes.setdefault(scene.facts, scene)
    return list(scenes.values())
