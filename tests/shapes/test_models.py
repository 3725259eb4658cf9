"""The committed models: sizes, loading with no network, and held-out quality."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from lensmesh_shapes import CAPTIONER_DIR, CLIP_DIR, Scene, caption, held_out_scenes
from lensmesh_shapes.evaluate import caption_accuracy, captions, images, retrieval

SCENES = 1000
CAPTIONED = 200


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a bundled model reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return held_out_scenes(SCENES)


@pytest.fixture(scope="module")
def drawn(scenes: Sequence[Scene]) -> list[Image.Image]:
    return images(scenes, as_files=False)


@pytest.mark.parametrize("folder", [CLIP_DIR, CAPTIONER_DIR])
def test_a_model_folder_is_small(folder: Path) -> None:
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 12_000_000


def test_text_finds_its_image(scenes: Sequence[Scene], drawn: Sequence[Image.Image]) -> None:
    recall = retrieval(CLIP_DIR, drawn, [caption(scene.facts) for scene in scenes])
    assert recall["recall_at_1"] >= 0.96
    assert recall["recall_at_5"] >= 0.999


def test_captions_state_every_fact(scenes: Sequence[Scene], drawn: Sequence[Image.Image]) -> None:
    told = captions(CAPTIONER_DIR, drawn[:CAPTIONED])
    assert caption_accuracy(scenes[:CAPTIONED], told) >= 0.98


def test_files_of_other_sizes_are_told_as_well(scenes: Sequence[Scene]) -> None:
    some = scenes[:60]
    told = captions(CAPTIONER_DIR, images(some, as_files=True))
    assert caption_accuracy(some, told) >= 0.95
