"""`lensmesh search` with several queries: what is asked, and how what each said is shown."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.rpc.status import to_status
from lensmesh_cli.cards import ShownQuery
from lensmesh_cli.commands.search import FusionChoice
from lensmesh_cli.hits import table
from lensmesh_cli.page import ResultPage, Section
from lensmesh_client import FusionMethod, Hit, LegScore, SearchResult
from lensmesh_client.errors import Reason, Unavailable
from tests.cli.in_process import User
from tests.client.fake_router import FakeRouter, serving_in_thread
from tests.support.meshes import draw_images


@pytest.fixture(scope="module")
def served() -> Iterator[FakeRouter]:
    """One router for the whole file."""
    with serving_in_thread() as router:
        yield router


@pytest.fixture
def router(served: FakeRouter) -> FakeRouter:
    """Without a trace of other tests."""
    served.calls.clear()
    served.failed_legs = []
    return served


@pytest.fixture
def user(router: FakeRouter, tmp_path: Path) -> User:
    """Uses that router."""
    return User(router.target, tmp_path / "state")


def test_every_query_is_asked_by_its_name_and_weight(user: User, router: FakeRouter, tmp_path: Path) -> None:
    [path] = draw_images(tmp_path, 1)
    found = user.json(
        "search", "a cat", "--text", "a dog", "--image", path, "--like", "one", "--not", "a bird",
        "--same", path, "--words", "old bri*", "--words-in", "title", "--words-in", "$caption",
        "--weight", "text2=-0.5", "--weight", "image=2", "--fusion", "weighted", "--partial",
        "--group-by", "artist", "--group-by", "year", "--group-size", "3", "--diversity", "0.25",
    )  # fmt: skip
    request = router.calls[-1]
    assert [(query.name, query.WhichOneof("query"), query.weight) for query in request.queries] == [
        ("text", "text", 0),
        ("text2", "text", -0.5),
        ("image", "image", 2),
        ("like", "item_id", 0),
        ("words", "caption_text", 0),
        ("same", "image", 0),
        ("not", "text", -1),
    ]
    assert request.queries[2].image.content == path.read_bytes()
    assert [query.by_hash for query in request.queries] == [False] * 5 + [True, False]
    assert list(request.queries[4].text_fields) == ["title", "$caption"]
    assert request.fusion.method == search_pb2.FUSION_METHOD_WEIGHTED
    assert (list(request.group_by.fields), request.group_by.size) == (["artist", "year"], 3)
    assert (request.diversity.strength, request.partial) == (0.25, True)
    assert found["queries"][1] == {"name": "text2", "text": "a dog", "weight": -0.5}
    [hit] = found["hits"]
    assert hit["group"] == ["Monet", 1870]
    assert hit["legs"][1] == {"name": "text2", "score": 0.5, "rank": 2}


def test_one_query_asks_for_nothing_more(user: User, router: FakeRouter) -> None:
    found = user.json("search", "--text", "a cat")
    request = router.calls[-1]
    assert not any(request.HasField(name) for name in ("fusion", "group_by", "diversity"))
    assert not request.partial
    assert found["hits"][0]["group"] is None
    shown = user.run("search", "a cat").out
    assert "0.750" in shown
    assert "text" not in shown


def test_the_table_shows_what_each_query_said(user: User, router: FakeRouter) -> None:
    away = Unavailable(Reason.ENCODER_UNAVAILABLE, "no encoder")
    router.failed_legs = [search_pb2.FailedLeg(name="text", error=to_status(away))]
    shown = user.run("search", "a cat", "--like", "one", "--group-by", "artist", "--rrf-k", "5", "--partial")
    assert router.calls[-1].fusion.rrf_k == 5
    assert shown.out.split()[:4] == ["score", "text", "like", "group"]
    assert shown.out.splitlines()[1].split()[1:6] == ["0.7500", "-", "0.500", "#1", "Monet"]
    assert "left out: text: no encoder" in shown.err
    found = user.json("search", "a cat", "--like", "one", "--partial")
    assert found["failed"] == [{"name": "text", "reason": "ENCODER_UNAVAILABLE", "message": "no encoder"}]


def test_the_page_shows_queries_bars_and_groups(user: User, tmp_path: Path) -> None:
    [path] = draw_images(tmp_path, 1)
    page = tmp_path / "page.html"
    asked = ("--image", path, "--not", "<b>", "--weight", "not=-2", "--group-by", "artist", "--html", page)
    assert user.run("search", "a cat", *asked).code == 0
    html = page.read_text()
    for text in (
        "3 queries, one ranking",
        "<b>text</b>“a cat”",
        path.name,
        "“&lt;b&gt;” (weight -2)",
        ">artist Monet</small>",
    ):
        assert text in html
    # The thumbnail of the query; the hit's image is nowhere here.
    assert html.count("data:image/jpeg;base64,") == 1
    assert html.count('<li class="away">') == html.count('<i class="away">') == 1
    assert html.count("<em>#1</em><em>0.500</em>") == 1
    assert "<script" not in html


def hits() -> list[Hit]:
    """Of two groups in turn, and two queries; each of these did not find one hit."""
    legs = [
        (LegScore("text", 0.2, 1), LegScore("not", 0.9, 2)),
        (LegScore("not", 0.5, 1),),
        (LegScore("text", 0.1, 2),),
    ]
    groups = [("a",), ("b",), ("a",)]
    return [Hit(str(n), 0.5 - n / 10, legs=legs[n], group=groups[n]) for n in range(3)]


def test_groups_of_several_hits_are_blocks() -> None:
    found = SearchResult(tuple(hits()))
    page = ResultPage("", "")
    queries = [ShownQuery("text", "“a”"), ShownQuery("not", "“b”", away=True)]
    section = Section("", found.hits, queries=queries, groups=found.groups, group_by=["$who"])
    page.add(section, lambda _: None)
    html = page.html()
    # A group of one hit has its name on the card.
    assert html.count("<h3>") == 1
    assert html.index("<h3>who a</h3>") < html.index("<small>2</small>") < html.index('<small class="of">who b</small>')
    # From the lowest score shown to the highest one.
    widths = [part.partition('"')[0] for part in html.split('<b style="width:')[1:]]
    assert widths == ["100%", "100%", "6%", "6%"]
    assert html.count("<i></i><em>-</em>") == 2


def test_groups_of_one_hit_share_a_row() -> None:
    groups = ["a", "a", "b", "c", None, "d", "d"]
    found = SearchResult(tuple(Hit(str(n), 0.5, group=(group,) if group else ()) for n, group in enumerate(groups)))
    page = ResultPage("", "")
    page.add(Section("", found.hits, groups=found.groups, group_by=["scene"]), lambda _: None)
    blocks = page.html().split('<div class="group">')[1:]
    assert [block.count("<figure") for block in blocks] == [2, 3, 2]
    assert [name for name in "abcd" if f"scene {name}<" in blocks[1]] == ["b", "c"]
    bare = ResultPage("", "")
    bare.add(Section("", found.hits, groups=found.groups), lambda _: None)
    assert "<h3>a</h3>" in bare.html()


def test_a_page_tells_the_relevance_where_it_is_known() -> None:
    page = ResultPage("", "")
    page.add(Section("", [Hit("a", 0.3, relevance=0.987), Hit("b", 0.2)]), lambda _: None)
    assert page.html().count("<small>relevance ") == page.html().count("<small>relevance 0.99</small>") == 1


def test_the_table_has_groups_together() -> None:
    found = SearchResult(tuple(hits()))
    shown = table(found.hits, legs=["text", "not"], groups=found.groups)
    columns = [[str(cell) for cell in column.cells] for column in shown.columns]
    assert columns[0] == ["1", "3", "2"]
    assert columns[2:5] == [["0.200 #1", "0.100 #2", "-"], ["0.900 #2", "-", "0.500 #1"], ["a", "", "b"]]
    # Where there is no room for their columns, queries stand below one another, and the scores can be read.
    narrow = table(found.hits, legs=["text", "not", "image"], groups=found.groups, width=80)
    first = [str(column.header) + str(next(iter(column.cells))) for column in narrow.columns]
    assert first[1:4] == ["score0.5000", "queriestext 0.200 #1\nnot 0.900 #2\nimage -", "groupa"]


def test_the_choices_are_the_clients() -> None:
    assert [choice.value for choice in FusionChoice] == [method.value for method in FusionMethod]
