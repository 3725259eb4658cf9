"""Training batches: scenes drawn on the fly in a worker process, with worn and resized copies."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from lensmesh_shapes.captions import caption, sample_wording, without_sizes
from lensmesh_shapes.facts import (
    CANONICAL_RELATIONS,
    COLOURS,
    COUNTS,
    SHAPES,
    SIZES,
    Facts,
    Group,
    Scene,
    is_held_out,
    sample_facts,
    tellable,
)
from lensmesh_shapes.scenes import draw, layout

Choice = TypeVar("Choice")

IMAGE_PX = 64
PATCH_PX = 8
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
UNSAID = -100
"""Label that torch's cross entropy passes over."""

FACT_CLASSES = (len(COUNTS), len(SIZES), len(COLOURS), len(SHAPES))
"""Classes of a group's four facts, in the order of its labels."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A training batch of B scenes."""

    images: Tensor  # uint8 [B, IMAGE_PX, IMAGE_PX, 3]
    groups: Tensor  # int64 [B, 2, 4]: count, size, colour, shape; UNSAID for no second group
    relations: Tensor  # int64 [B]: 0 for one group, 1 left of, 2 above
    patches: Tensor  # int64 [B, patches]: 0 ground, 1 first group, 2 second group
    texts: list[str]
    sizes_said: Tensor  # bool [B]: whether the text names the sizes


def group_labels(group: Group | None) -> list[int]:
    """Return the class indices of count, size, colour and shape."""
    if group is None or group.size is None:
        return [UNSAID] * 4
    return [
        COUNTS.index(group.count),
        SIZES.index(group.size),
        COLOURS.index(group.colour),
        SHAPES.index(group.shape),
    ]


def patch_labels(scene: Scene) -> NDArray[np.int64]:
    """Return which group, if any, each patch lies on, [patches] in reading order."""
    side = IMAGE_PX // PATCH_PX
    middles = (np.arange(side) + 0.5) / side
    labels = np.zeros((side, side), np.int64)
    for number, placed in enumerate(layout(scene), start=1):
        for x, y in placed.centres:
            reach = placed.diameter / 2 + 0.3 / side
            apart = np.hypot(middles[None, :] - x, middles[:, None] - y)
            labels[apart < reach] = number
    return labels.reshape(-1)


def _other(rng: np.random.Generator, choices: tuple[Choice, ...], but: Choice | None) -> Choice:
    rest = [choice for choice in choices if choice != but]
    return rest[int(rng.integers(len(rest)))]


def _change_one(group: Group, rng: np.random.Generator) -> Group:
    match int(rng.integers(4)):
        case 0:
            return replace(group, count=_other(rng, COUNTS, group.count))
        case 1:
            return replace(group, size=_other(rng, SIZES, group.size))
        case 2:
            return replace(group, colour=_other(rng, COLOURS, group.colour))
        case _:
            return replace(group, shape=_other(rng, SHAPES, group.shape))


def near_miss(facts: Facts, rng: np.random.Generator) -> Facts:
    """Draw facts that differ in one thing: the hardest wrong answer for a search."""
    if facts.second is not None and rng.random() < 0.3:
        if rng.random() < 0.6:
            return replace(facts, first=facts.second, second=facts.first)
        return replace(facts, relation=_other(rng, CANONICAL_RELATIONS, facts.relation))
    second = facts.second is not None and rng.random() < 0.5
    group = facts.second if second and facts.second is not None else facts.first
    changed = _change_one(group, rng)
    return replace(facts, second=changed) if second else replace(facts, first=changed)


def sample_batch_facts(rng: np.random.Generator, count: int, near: float) -> list[Facts]:
    """Draw `count` distinct fact sets of the training split, a share `near` of them near misses."""
    chosen: dict[Facts, None] = {}
    while len(chosen) < count:
        facts = sample_facts(rng)
        pair = [facts, near_miss(facts, rng)] if rng.random() < near else [facts]
        for one in pair:
            if tellable(one) and not is_held_out(one) and len(chosen) < count:
                chosen[one] = None
    return list(chosen)


def resized(image: Image.Image) -> NDArray[np.uint8]:
    """Return the image at the models' input size, [IMAGE_PX, IMAGE_PX, 3]."""
    if image.width != IMAGE_PX:
        image = image.resize((IMAGE_PX, IMAGE_PX), Image.Resampling.BICUBIC)
    return np.asarray(image, dtype=np.uint8)


def stored(image: Image.Image, codec: str, quality: int) -> Image.Image:
    """Return the image as a lossy file gives it back."""
    file = io.BytesIO()
    image.save(file, codec, quality=quality)
    return Image.open(file).convert("RGB")


def worn(scene: Scene, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return the scene as files bring it: drawn at some size, perhaps lossily stored, then resized."""
    size_px = IMAGE_PX
    if rng.random() < 0.4:
        size_px = int(np.exp(rng.uniform(np.log(72), np.log(320))))
    image = draw(scene, size_px)
    if rng.random() < 0.3:
        image = stored(image, "JPEG", int(rng.integers(75, 97)))
    return resized(image)


class SceneBatches(IterableDataset[Batch]):
    """Endless batches; `wordings` 'many' for CLIP, 'one' for the captioner."""

    def __init__(self, seed: int, count: int, near: float, wordings: str) -> None:
        self.seed, self.count, self.near, self.wordings = seed, count, near, wordings

    def __iter__(self) -> Iterator[Batch]:
        torch.set_num_threads(1)
        rng = np.random.default_rng(self.seed)
        while True:
            yield self._batch(rng)

    def _batch(self, rng: np.random.Generator) -> Batch:
        drawn = sample_batch_facts(rng, self.count, self.near)
        scenes = [Scene(facts, int(rng.integers(2**63))) for facts in drawn]
        said = rng.random(self.count) < (0.88 if self.wordings == "many" else 2.0)
        relations = (None, *CANONICAL_RELATIONS)
        if self.wordings == "many":
            told = [f if s else without_sizes(f) for f, s in zip(drawn, said, strict=True)]
            texts = [sample_wording(facts, rng) for facts in told]
        else:
            texts = [caption(facts) for facts in drawn]
        return Batch(
            images=torch.from_numpy(np.stack([worn(scene, rng) for scene in scenes])),
            groups=torch.tensor([[group_labels(f.first), group_labels(f.second)] for f in drawn]),
            relations=torch.tensor([relations.index(facts.relation) for facts in drawn]),
            patches=torch.from_numpy(np.stack([patch_labels(scene) for scene in scenes])),
            texts=texts,
            sizes_said=torch.from_numpy(said),
        )


def batches(seed: int, count: int, near: float, wordings: str) -> Iterator[Batch]:
    """Yield batches that one worker process draws ahead."""
    dataset = SceneBatches(seed, count, near, wordings)
    return iter(DataLoader(dataset, batch_size=None, num_workers=1, prefetch_factor=8))


def pixels(images: Tensor) -> Tensor:
    """Make the models' input from uint8 images: [B, H, W, 3] in 0..255 to [B, 3, H, W] normalised."""
    mean, std = torch.tensor(MEAN), torch.tensor(STD)
    return ((images.float() / 255 - mean) / std).permute(0, 3, 1, 2).contiguous()
