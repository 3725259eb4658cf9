"""The scene drawer: deterministic, size-independent, split from training."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest

from lensmesh_shapes import Facts, Group, Scene, draw, held_out_scenes
from lensmesh_shapes.facts import COLOURS, COUNTS, RELATIONS, SHAPES, SIZES, is_held_out, sample_scene
from lensmesh_shapes.scenes import layout


def test_the_world_is_as_rich_as_promised() -> None:
    assert len(SHAPES) >= 8
    assert len(COLOURS) == 10
    assert SIZES == ("small", "large")
    assert COUNTS == (1, 2, 3, 4)
    assert set(RELATIONS) == {"left of", "right of", "above", "below"}


@pytest.mark.parametrize("size_px", [64, 97, 320])
def test_equal_scenes_give_equal_pixels(size_px: int) -> None:
    for scene in held_out_scenes(5):
        again = Scene(scene.facts, scene.seed)
        image = draw(scene, size_px)
        assert image.size == (size_px, size_px)
        assert image.mode == "RGB"
        assert image.tobytes() == draw(again, size_px).tobytes()


def test_another_seed_gives_another_drawing_of_the_same_facts() -> None:
    scene = held_out_scenes(1)[0]
    assert draw(scene, 64).tobytes() != draw(Scene(scene.facts, scene.seed + 1), 64).tobytes()


def test_a_scene_looks_alike_at_every_size() -> None:
    for scene in held_out_scenes(20):
        small = np.asarray(draw(scene, 64), dtype=float)
        large = np.asarray(draw(scene, 512).resize((64, 64)), dtype=float)
        assert np.abs(small - large).mean() < 8


def test_a_mirrored_relation_draws_the_same_image() -> None:
    facts = Facts(Group(1, "small", "red", "circle"), "left of", Group(2, "large", "blue", "star"))
    assert draw(Scene(facts, 3), 64).tobytes() == draw(Scene(facts.mirrored(), 3), 64).tobytes()


def test_groups_stand_as_the_relation_says_and_inside_the_image() -> None:
    rng = np.random.default_rng(4)
    for _ in range(500):
        scene = sample_scene(rng)
        groups = layout(scene)
        for placed in groups:
            assert len(placed.centres) == placed.group.count
            for x, y in placed.centres:
                assert placed.diameter / 2 - 0.02 < min(x, y)
                assert max(x, y) < 1 + 0.02 - placed.diameter / 2
        if scene.facts.relation is not None:
            axis = 0 if scene.facts.relation == "left of" else 1
            first, second = (np.mean(placed.centres, axis=0) for placed in groups)
            along, across = second[axis] - first[axis], abs(second[1 - axis] - first[1 - axis])
            assert along > 0.3
            assert along > across
            nearest = max(centre[axis] for centre in groups[0].centres)
            assert nearest < min(centre[axis] for centre in groups[1].centres)


def test_held_out_scenes_are_fixed_distinct_and_never_sampled_for_training() -> None:
    scenes = held_out_scenes(300)
    assert scenes == held_out_scenes(300)
    assert len({scene.facts.canonical() for scene in scenes}) == 300
    assert all(is_held_out(scene.facts) and is_held_out(scene.facts.mirrored()) for scene in scenes)
    rng = np.random.default_rng(20_240)
    assert not any(is_held_out(sample_scene(rng).facts) for _ in range(2000))


def test_drawing_is_cheap() -> None:
    scenes = held_out_scenes(100)
    began = time.process_time()
    for scene in scenes:
        draw(scene, 64)
    # About a millisecond of processor time each; the margin is for slow machines.
    assert time.process_time() - began < 2


def test_scenes_and_captions_need_no_torch() -> None:
    program = "import sys, lensmesh_shapes; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
