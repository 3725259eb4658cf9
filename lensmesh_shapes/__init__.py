"""A bundled pack of drawn scenes and two small models that know them.

Importing this package, drawing scenes and reading captions need no torch.
"""

from __future__ import annotations

from pathlib import Path

from lensmesh_shapes.captions import caption, facts_of
from lensmesh_shapes.facts import Facts, Group, Scene, held_out_scenes, same_facts
from lensmesh_shapes.scenes import draw

CLIP_DIR = Path(__file__).resolve().parent / "clip"
"""Folder of the CLIP, for open_clip's `local-dir:`."""

CAPTIONER_DIR = Path(__file__).resolve().parent / "captioner"
"""Folder of the BLIP captioner, for transformers' `from_pretrained`."""

__all__ = [
    "CAPTIONER_DIR",
    "CLIP_DIR",
    "Facts",
    "Group",
    "Scene",
    "caption",
    "draw",
    "facts_of",
    "held_out_scenes",
    "same_facts",
]
