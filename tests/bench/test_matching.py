"""The benchmark of matching: what it draws and alters, how it counts, and that OpenCV's ways still run."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.match.alterations import NAMES, alter
from bench.match.answers import Answer, Query, accepts, figures, threshold
from bench.match.entries import make_subject
from bench.match.opencv import EachEntry, Features, OneIndex, points_of
from bench.match.tables import Asked, candidates_table, recall_table, speed_table


def test_what_is_drawn_stays_the_same(tmp_path: Path) -> None:
    drawn: list[None] = []
    subject = make_subject(tmp_path, 20, 8, lambda: drawn.append(None))
    assert len(drawn) == 28
    assert (len(subject.entries), len(subject.strangers), subject.photographs) == (20, 8, 18)
    assert not {*subject.entries} & {*subject.strangers}
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    more = make_subject(tmp_path, 22, 7)
    assert more.entries[:20] == subject.entries
    assert more.strangers == subject.strangers[:7]
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_each_alteration_is_another_image_and_always_the_same(tmp_path: Path) -> None:
    with Image.open(make_subject(tmp_path, 1, 0).entries[0]) as image:
        made = {name: alter(image, name, 3) for name in NAMES}
        assert {name: alter(image, name, 3) for name in NAMES} == made
    assert len({*made.values()}) == len(NAMES)


def answer(entry: int | None, confidence: float, *, accepted: bool | None = None) -> Answer:
    """An answer in no time."""
    return Answer(entry, confidence, 0.5, accepted)


def test_one_stranger_in_a_thousand_may_pass() -> None:
    strangers = [answer(1, float(number)) for number in range(1_000)]
    least = threshold(strangers)
    assert sum(one.confidence > least for one in strangers) == 1
    assert threshold(strangers[:999]) == 998
    assert threshold([answer(None, 0.0)]) == -np.inf
    queries = [Query(b"", NAMES[0], entry) for entry in (0, 1, 2, 3)]
    answers = [
        answer(0, 999.0, accepted=True),
        answer(1, 5.0, accepted=True),
        answer(9, 999.0, accepted=True),
        answer(None, 0.0, accepted=False),
    ]
    known = figures(queries, answers, least)
    assert (known.queries, known.recall, known.recall_at_threshold) == (4, 0.5, 0.25)
    assert (known.accepted, known.wrong) == (0.5, 0.25)
    assert accepts(answers) == 0.75


def test_tables() -> None:
    queries = [Query(b"", name, number) for number, name in enumerate(NAMES[:2])]
    mesh = Asked("lensmesh", queries, [answer(0, 1.0, accepted=True)] * 2, [answer(3, 0.5, accepted=False)])
    other = Asked("FLANN", queries, [answer(0, 9.0)] * 2, [answer(3, 5.0)])
    shown = recall_table([mesh, other], 1)
    assert f"| lensmesh | {NAMES[0]} | 1 | 1.000 | 1.000 | 1.000 | 0.000 |" in shown
    assert f"| lensmesh | {NAMES[1]} | 1 | 0.000 | 0.000 | 0.000 | 1.000 |" in shown
    assert f"| FLANN | {NAMES[0]} | 1 | 1.000 | 1.000 | - | - |" in shown
    assert "| lensmesh | of photographs, all alterations | 1 | 1.000 |" in shown
    assert "lensmesh: 1 strangers, 0.1 % of them above 0.5; called a MATCH by default: 0.0000" in shown
    assert f"| {NAMES[1]} | 0.000 | 1.000 |" in candidates_table(queries, [[0], [7, 1]])
    times = {"lensmesh": {10: mesh.answers, 20: mesh.answers}, "FLANN": {10: mesh.answers, 20: mesh.answers}}
    assert "| FLANN | 500.0 (1.0 x) | 500.0 (1.0 x) |" in speed_table(times, "lensmesh")


@pytest.mark.parametrize("kind", ["SIFT", "ORB"])
def test_opencv_finds_a_copy_and_no_stranger(tmp_path: Path, kind: str) -> None:
    subject = make_subject(tmp_path, 4, 1)
    features = Features(kind)
    points = points_of(subject.entries, features)
    with Image.open(subject.entries[2]) as image, Image.open(subject.strangers[0]) as other:
        for system in (OneIndex(features, points), EachEntry(features, points)):
            found = system.match(alter(image, NAMES[0], 0))
            assert (found.entry, found.candidates[0]) == (2, 2)
            stranger = system.match(alter(other, NAMES[0], 0))
            assert found.confidence > 50 > 20 > stranger.confidence
