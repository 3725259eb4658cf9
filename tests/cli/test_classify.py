"""`lensmesh classify`: files of labels, and what is printed."""

import json
from collections import Counter
from pathlib import Path

import pytest

from lensmesh_chassis.labels import MAX_LABELS
from lensmesh_cli.hits import said_of
from lensmesh_client import Hit, SyncClient
from tests.cli.in_process import User, lensmesh_here
from tests.support.meshes import draw_images

NOBODY = {"LENSMESH_TARGET": "127.0.0.1:1"}


def test_labels_of_a_file_and_of_the_line(user: User, tmp_path: Path) -> None:
    paths = draw_images(tmp_path / "in", 3, start=7_100)
    bad = tmp_path / "in" / "broken.png"
    bad.write_bytes(b"no image")
    file = tmp_path / "labels.txt"
    file.write_bytes("\ufeff# animals\r\ncat\r\n\r\n  Schäfchen  \r\n#dog\r\n".encode())
    arguments = ("classify", tmp_path / "in", "--labels", file, "--label", "dog", "--top", "2")
    done = user.run(*arguments, "--json")
    assert done.code == 1, done.err
    told = {Path(one["path"]).name: one for one in json.loads(done.out)}
    assert set(told) == {*(path.name for path in paths), "broken.png"}
    assert told["broken.png"]["error"]["reason"] == "IMAGE_UNDECODABLE"
    for path in paths:
        scores = told[path.name]["labels"]
        assert len(scores) == 2
        assert {score["label"] for score in scores} < {"cat", "Schäfchen", "dog"}
        assert scores[0]["probability"] >= scores[1]["probability"]
    said = user.run(*arguments)
    first = told[paths[0].name]["labels"]
    assert f"{paths[0]}: {first[0]['label']} ({first[0]['probability']:.2f}), {first[1]['label']} (" in said.out
    assert "broken.png" in said.err
    everything = user.run("classify", paths[0], "--labels", file, "--top", "0", "--template", "{}", "--json")
    assert sum(score["probability"] for score in json.loads(everything.out)[0]["labels"]) == pytest.approx(1, abs=1e-4)


def test_what_the_mesh_refuses_is_said(user: User, tmp_path: Path) -> None:
    path = draw_images(tmp_path, 1, start=7_200)[0]
    one = user.run("classify", path, "--label", "cat")
    assert one.code == 1
    assert "at least two" in one.err
    template = user.run("classify", path, "--label", "cat", "--label", "dog", "--template", "a cat")
    assert template.code == 1
    assert "templates[0]" in template.err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no label"),
        (b"# nothing\n\n", "no label"),
        (b"cat\ndog\n\ncat\n", "line 4: 'cat' stands in line 1"),
        (b"cat\n\xff\xfe\n", "line 2: it is not UTF-8"),
        (b"cat\na\0b\n", "line 2: the label holds a NUL"),
        ("\n".join(f"label {number}" for number in range(MAX_LABELS + 1)).encode(), f"more than {MAX_LABELS}"),
    ],
)
def test_a_bad_file_of_labels_is_told_with_its_line(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "labels.txt"
    file.write_bytes(content)
    done = lensmesh_here("classify", tmp_path, "--labels", file, **NOBODY)
    assert done.code == 2
    assert words in done.err
    assert "labels.txt" in done.err


def test_labels_are_needed_and_each_once(tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    file.write_text("cat\n")
    for arguments, words in (
        ((), "--labels FILE"),
        (("--label", "cat", "--label", "cat"), "there already"),
        (("--labels", file, "--label", "cat"), "there already"),
        (("--labels", tmp_path / "none.txt"), "cannot be read"),
        (("--labels", tmp_path), "folder"),
    ):
        done = lensmesh_here("classify", tmp_path, *arguments, **NOBODY)
        assert done.code == 2, arguments
        assert words in done.err


def test_an_ingest_writes_tags_that_searches_filter_by(user: User, tmp_path: Path) -> None:
    draw_images(tmp_path / "in", 6, start=7_300)
    file = tmp_path / "labels.txt"
    file.write_text("# what is there\ncat\ndog\nbird\n")
    arguments = ("ingest", tmp_path / "in", "--collection", "tagged", "--captions", "none", "--json")
    again = user.run(*arguments)
    assert json.loads(again.out)["outcomes"] == {"created": 6}
    first = user.run(*arguments, "--tags", file, "--tags-min", "0.3", "--tags-template", "a {}")
    assert json.loads(first.out)["outcomes"] == {"updated": 6}, first.err
    second = user.run(*arguments, "--tags", file, "--tags-min", "0.3", "--tags-template", "a {}")
    assert json.loads(second.out)["outcomes"] == {"unchanged": 6}
    found = user.run("search", "words", "--collection", "tagged", "--exact", "--json", "-n", "20")
    hits = json.loads(found.out)["hits"]
    assert len(hits) == 6
    by_label = {label: {hit["id"] for hit in hits if label in hit["metadata"]["tags"]} for label in ("cat", "dog")}
    assert any(by_label.values())
    for label, ids in by_label.items():
        filtered = user.run(
            "search", "words", "--collection", "tagged", "--exact", "--json", "-n", "20", "-f", f"tags={label}"
        )
        assert {hit["id"] for hit in json.loads(filtered.out)["hits"]} == ids
    sure = user.run(
        "search", "x", "--collection", "tagged", "--exact", "--json", "-n", "20", "-f", "tags_probability.cat>=0.3"
    )
    assert {hit["id"] for hit in json.loads(sure.out)["hits"]} == by_label["cat"]

    shown = user.run("search", "words", "--collection", "tagged", "--exact", "-n", "20").out
    assert "tags_digest" not in shown
    assert any(f"{label} (" in shown for label in ("cat", "dog", "bird"))


def test_tags_are_shown_with_their_probabilities_whatever_a_caller_calls_so() -> None:
    tags = {"seen": ["cat", "a dog"], "seen_digest": "0", "seen_probability": {"a dog": 0.126, "cat": 1}}
    assert said_of(Hit("x", 1.0, metadata={"year": 1870, **tags})) == "year 1870, seen cat (1.00) a dog (0.13)"
    odd = {"x": [["cat"], "dog", 3], "x_digest": 1, "x_probability": {"dog": "high"}, "y": ["cat"], "y_digest": "0"}
    assert said_of(Hit("x", 1.0, metadata=odd)) == "x cat dog 3, y cat, y_digest 0"


def test_tags_are_counted_by_facets(user: User, tmp_path: Path) -> None:
    paths = draw_images(tmp_path, 12, start=7_500)
    with SyncClient(user.target) as client:
        client.collections.create("counted", fields={"tags": "keyword"})
        results = list(client.ingest_many(paths, collection="counted", captions="none", tags=["cat", "dog", "bird"]))
        assert all(result.ok for result in results)
        [facet] = client.items.facets("tags", collection="counted")
    counts = {str(one.value): one.count for one in facet.counts}
    assert counts == dict(Counter(label for result in results for label in result.tags))
    assert sum(counts.values()) >= 12


def test_options_of_tags_need_their_file(user: User, tmp_path: Path) -> None:
    draw_images(tmp_path, 1, start=7_400)
    file = tmp_path / "labels.txt"
    file.write_text("cat\ncat\n")
    for arguments, words in ((("--tags-min", "0.5"), "--tags FILE"), (("--tags", file), "line 2")):
        done = user.run("ingest", tmp_path, *arguments)
        assert done.code == 2
        assert words in done.err
