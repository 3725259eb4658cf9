"""`lensmesh match`: what is asked, what is printed, and what the page shows."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf import struct_pb2

from lensmesh.common.v1 import common_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_cli.match.drawing import MOST_LINES, drawing
from lensmesh_cli.thumbnails import Thumbnail
from lensmesh_client import MatchGeometry
from tests.cli.in_process import User, lensmesh_here
from tests.client.fake_router import FakeRouter, serving_in_thread
from tests.support.meshes import draw_images

SAME = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
NOBODY = {"LENSMESH_TARGET": "127.0.0.1:1"}
HOSTILE = "<script>alert(1)</script>\x1b[2J\u202e"


@pytest.fixture(scope="module")
def served() -> Iterator[FakeRouter]:
    """One router for the whole file."""
    with serving_in_thread() as router:
        yield router


@pytest.fixture
def router(served: FakeRouter) -> FakeRouter:
    """Without a trace of other tests."""
    served.calls.clear()
    served.matches.clear()
    return served


@pytest.fixture
def user(router: FakeRouter, tmp_path: Path) -> User:
    """Uses that router."""
    return User(router.target, tmp_path / "state")


def candidate(name: str, image: Path | None = None, confidence: float = 0.93) -> router_pb2.MatchCandidate:
    """An entry that geometry speaks for."""
    item = search_pb2.Item(
        id=name,
        image_uri="" if image is None else image.resolve().as_uri(),
        caption=common_pb2.Caption(text=f"a photo of {name}"),
    )
    return router_pb2.MatchCandidate(
        item=item,
        entry=struct_pb2.ListValue(values=[struct_pb2.Value(string_value=name), struct_pb2.Value(number_value=1870)]),
        confidence=confidence,
        basis=router_pb2.MATCH_BASIS_GEOMETRY,
        cosine=0.875,
        hash_distance=24,
        geometry=router_pb2.MatchGeometry(
            inlier_count=40, tentative_count=50, homography=SAME, pairs=[0.25, 0.5, 0.25, 0.5]
        ),
    )


def answer(
    verdict: router_pb2.MatchVerdict.ValueType,
    best: router_pb2.MatchCandidate | None,
    *alternatives: router_pb2.MatchCandidate,
    ambiguous: bool = False,
) -> router_pb2.MatchResult:
    """The answer for one image."""
    return router_pb2.MatchResult(
        match=router_pb2.ImageMatch(verdict=verdict, best=best, alternatives=alternatives, ambiguous=ambiguous)
    )


def test_what_is_asked(user: User, router: FakeRouter, tmp_path: Path) -> None:
    [path] = draw_images(tmp_path / "in", 1, start=9_100)
    router.matches[path.read_bytes()] = answer(router_pb2.MATCH_VERDICT_MATCH, candidate("moon"))
    done = user.run(
        "match", path, "--collection", "art", "--entry", "artist,title", "--entry", "year", "--filter", "year>1800",
        "--threshold", "0.75", "--unsure", "0.25", "--candidates", "50", "--alternatives", "3", "--space", "image",
    )  # fmt: skip
    assert done.code == 0, done.err
    sent = router.calls[-1]
    assert (sent.collection, [*sent.entry_fields], sent.space) == ("art", ["artist", "title", "year"], "image")
    assert (sent.candidates, sent.alternatives, sent.thresholds.match, sent.thresholds.unsure) == (50, 3, 0.75, 0.25)
    assert sent.filter.condition.field == "year"
    assert sent.priority == common_pb2.PRIORITY_UNSPECIFIED
    assert user.run("match", path).code == 0
    plain = router.calls[-1]
    assert (plain.candidates, [*plain.entry_fields]) == (0, [])
    assert not plain.thresholds.HasField("match")
    assert not plain.HasField("filter")


def test_verdicts_are_printed_and_told_by_the_exit_code(user: User, router: FakeRouter, tmp_path: Path) -> None:
    known, like, strange, bad = draw_images(tmp_path / "in", 4, start=9_200)
    router.matches[known.read_bytes()] = answer(router_pb2.MATCH_VERDICT_MATCH, candidate("moon"))
    between = answer(router_pb2.MATCH_VERDICT_UNSURE, candidate("sun"), candidate("star", None, 0.5), ambiguous=True)
    router.matches[like.read_bytes()] = between
    router.matches[strange.read_bytes()] = answer(router_pb2.MATCH_VERDICT_NO_MATCH, candidate("dust", None, 0.125))
    sure = user.run("match", known)
    assert sure.code == 0
    # A narrow terminal breaks lines anywhere.
    for words in ("image verdict entry confidence rests on", "match moon · 1870 0.93 geometry: 40 of 50 pairs agree"):
        assert {*words.split()} <= {*sure.out.split()}, sure.out
    some = user.run("match", known, like, strange)
    assert some.code == 4
    for words in ("unsure, between two", "sun else star", "no match", "nearest: dust"):
        assert {*words.split()} <= {*some.out.split()}, some.out
    failed = user.run("match", tmp_path / "in", tmp_path / "missing.jpg", "--json")
    assert failed.code == 1
    assert "no image (IMAGE_UNDECODABLE)" in failed.err
    lines = {Path(line["path"]).name: line for line in map(json.loads, failed.out.splitlines())}
    assert {name: line["verdict"] for name, line in lines.items()} == {
        known.name: "match", like.name: "unsure", strange.name: "no match", bad.name: None, "missing.jpg": None,
    }  # fmt: skip
    assert lines["missing.jpg"]["error"]["reason"] == "IMAGE_MISSING"
    assert lines[bad.name]["error"] == {"reason": "IMAGE_UNDECODABLE", "message": "no image"}
    told = lines[like.name]
    assert told["ambiguous"] is True
    assert [each["entry"] for each in (told["best"], *told["alternatives"])] == [["sun", 1870], ["star", 1870]]
    assert told["best"]["geometry"]["inlier_count"] == 40
    assert (told["best"]["basis"], told["best"]["cosine"], told["best"]["hash_distance"]) == ("geometry", 0.875, 24)


def test_an_empty_collection_has_nothing_to_be_found(user: User, router: FakeRouter, tmp_path: Path) -> None:
    [path] = draw_images(tmp_path, 1, start=9_300)
    router.matches[path.read_bytes()] = answer(router_pb2.MATCH_VERDICT_NO_MATCH, None)
    page = tmp_path / "page.html"
    done = user.run("match", path, "--html", page)
    assert done.code == 4
    assert {"nothing", "there", "to", "be", "found"} <= {*done.out.split()}
    assert "there is nothing to be found" in page.read_text()


def test_the_page_shows_both_images_verdicts_and_bars(user: User, router: FakeRouter, tmp_path: Path) -> None:
    known, strange = draw_images(tmp_path / "in", 2, start=9_400)
    [entry] = draw_images(tmp_path / "entries", 1, start=9_410)
    best = candidate(HOSTILE, entry)
    router.matches[known.read_bytes()] = answer(router_pb2.MATCH_VERDICT_MATCH, best, candidate("<b>", None, 0.25))
    router.matches[strange.read_bytes()] = answer(router_pb2.MATCH_VERDICT_NO_MATCH, candidate("dust", entry, 0.125))
    page = tmp_path / "page.html"
    named = tmp_path / "in" / "<img src=x onerror=y>.jpg"
    known.rename(named)
    asked = ("match", tmp_path / "in", "--html", page)
    assert user.run(*asked).code == 4
    hidden = page.read_text()
    # Both queries; the entry lies where nobody ingested from.
    assert hidden.count("data:image/jpeg;base64,") == 2
    assert "<svg" not in hidden
    assert user.run(*asked, "--images-from", entry.parent).code == 4
    html = page.read_text()
    assert html.count("data:image/jpeg;base64,") == 4
    assert html.count('<article class="match yes">') == html.count('<article class="match no">') == 1
    assert html.index('match no"') < html.index('match yes"')
    assert html.count("<polygon ") == html.count("<path ") == 2
    for words in ("93%", "88%", "81%", "80%", "24 bits differ", "40 of 50 pairs", "nearest: <b>dust · 1870</b>"):
        assert words in html
    assert "&lt;script&gt;alert(1)" in html
    assert "&lt;img src=x onerror=y&gt;.jpg" in html
    assert "<li>&lt;b&gt; · 1870<em>0.25</em>" in html
    for evil in ("<script", "<img src=x", "\x1b", "\u202e"):
        assert evil not in html


def test_names_of_strangers_are_harmless_on_a_terminal(user: User, router: FakeRouter, tmp_path: Path) -> None:
    [path] = draw_images(tmp_path, 1, start=9_500)
    router.matches[path.read_bytes()] = answer(router_pb2.MATCH_VERDICT_MATCH, candidate(HOSTILE))
    for extra in ((), ("--json",)):
        said = user.run("match", path, *extra).out
        assert "alert(1)" in said
        assert not {"\x1b", "\u202e"} & set(said)


def test_lines_are_few_and_what_is_out_of_sight_is_not_drawn() -> None:
    square, wide = Thumbnail("", 100, 100), Thumbnail("", 200, 100)
    many = tuple((n / 100, n / 100, n / 100, 0.25) for n in range(64))
    drawn = drawing(square, wide, MatchGeometry(64, 64, homography=SAME, pairs=many))
    assert MOST_LINES / 2 < drawn.count("<path ") <= MOST_LINES
    # The wide image stands in the middle of its frame.
    assert 'd="M0.0000 0.0000L1.0600 0.5000"' in drawn
    assert "0.0000,0.2500 1.0000,0.2500 1.0000,1.2500 0.0000,1.2500" in drawn
    horizon = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, -1.0, 0.0, 1.0)
    odd = MatchGeometry(1, 1, homography=horizon, pairs=((0.5, 0.5, float("nan"), 0.5), (0.5, 0.5, 1e9, 0.5)))
    assert "<p" not in drawing(square, square, odd)
    assert drawing(square, square, None) == drawing(square, square, MatchGeometry(0, 9)) == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--entry", "a,b,c,d,e"), "--entry takes 1 to 4"),
        (("--entry", "a,"), "--entry takes 1 to 4"),
        (("--entry", "a", "--entry", "a"), "--entry takes 1 to 4"),
        (("--threshold", "0.25", "--unsure", "0.5"), "--unsure 0.5 is above --threshold 0.25"),
        (("--threshold", "nan"), "--threshold"),
        (("--unsure", "1.5"), "--unsure"),
        (("--candidates", "101"), "--candidates"),
        (("--alternatives", "11"), "--alternatives"),
        (("--filter", "nonsense"), "nonsense"),
        (("--html", "/nowhere/page.html"), "--html"),
    ],
)
def test_a_wrong_command_line_is_told_before_anything_is_asked(
    tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    [path] = draw_images(tmp_path, 1, start=9_600)
    done = lensmesh_here("match", path, *arguments, **NOBODY)
    assert done.code == 2
    assert words in done.err
