"""The demo's flow on mocks: what it found cannot be right, everything else must be."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import cast

import pytest

from lensmesh_cli.demo.figures import DemoFigures, caption_accuracy, time_shares
from lensmesh_cli.demo.matches import matches
from lensmesh_cli.demo.samples import draw_scenes, own_images
from lensmesh_client import Caption, Client, IngestResult, MatchResult, MatchVerdict, Timings
from tests.support.meshes import draw_images, environment, lensmesh
from tests.support.waiting import wait_until


def test_the_last_line_is_json_and_the_page_is_whole(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    stdout, stderr = demo_that_stays(tmp_path, "--count", "30", "--html", str(page))
    told = json.loads(stdout.splitlines()[-1])
    assert "kept: images in lensmesh-demo" in stderr
    assert list(told) == [
        "images", "seconds", "images_per_second", "recall_at_1", "caption_accuracy", "errors", "html",
    ]  # fmt: skip
    assert (told["images"], told["errors"], told["recall_at_1"]) == (30, 0, None)
    assert told["html"] == str(page)
    html = page.read_text()
    assert html.count("data:image/jpeg;base64,") >= 24
    assert "Where the time went" in html
    assert html.count("<div class=waiting ") == 1
    assert "<script" not in html
    for words in ("search by text", "search by image", "more like this", "search with a filter", "search in groups"):
        assert words in stdout
    matched = stdout.partition("match: a stored image that was photographed again")[2]
    assert "photograph-of-scene" in matched.replace("\n", "")
    assert "stranger.jpg" in matched
    assert html.count('<article class="match ') == 2
    fused = stdout.partition("search by several queries")[2].partition("nearest to the stored item")[0]
    assert ["score", "image", "text", "words"] in [line.split()[:4] for line in fused.splitlines()]
    assert "#1 " in fused
    assert html.count('<span class="legs">') == 6


def demo_that_stays(folder: Path, *arguments: str) -> tuple[str, str]:
    """What `lensmesh demo --keep` prints until its page is looked at and Ctrl-C ends it."""
    out, err = folder / "out", folder / "err"
    command = [sys.executable, "-m", "lensmesh_cli", "demo", "--mock", "--keep", *arguments]
    with out.open("wb") as stdout, err.open("wb") as stderr:
        # A checkout is importable only from its own folder.
        found = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        process = subprocess.Popen(command, cwd=folder, env=environment(**found), stdout=stdout, stderr=stderr)
    try:
        wait_until(lambda: "for as long as you like" in err.read_text() or process.poll() is not None, "the page")
        assert process.poll() is None, err.read_text()
        [address] = [line.split()[1] for line in err.read_text().splitlines() if line.startswith("page  ")]
        search = urllib.request.Request(
            f"{address}lensmesh.router.v1.RouterService/Search",
            b'{"queries": [{"text": "a circle"}], "limit": 3}',
            {"content-type": "application/json"},
        )
        with urllib.request.urlopen(search, timeout=30) as answer:
            assert len(json.load(answer)["hits"]) == 3
    finally:
        process.send_signal(signal.SIGINT)
        code = process.wait(120)
    assert code == 0, err.read_text()
    return out.read_text(), err.read_text()


def test_own_images_with_a_bad_one(tmp_path: Path) -> None:
    draw_images(tmp_path / "in", 8)
    (tmp_path / "in" / "bad.jpg").write_bytes(b"nonsense")
    done = lensmesh(
        "demo", "--mock", "--json", "--images", tmp_path / "in", "--html", tmp_path / "page.html", TMPDIR=str(tmp_path)
    )
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert (told["images"], told["errors"]) == (8, 1)
    # Its folder went with it.
    assert not list(tmp_path.glob("lensmesh-demo-*"))


def test_own_images_are_files_of_a_sane_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = draw_images(tmp_path, 3)
    os.mkfifo(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").symlink_to("/dev/zero")
    (tmp_path / "c.jpg").symlink_to("/nowhere")
    with (tmp_path / "d.tif").open("wb") as huge:
        huge.truncate(1 << 40)
    assert [sample.path for sample in own_images(tmp_path, 2)] == paths[:2]
    said = capsys.readouterr().err
    assert said.count("passed over: ") == 4
    assert "a.jpg: it is a named pipe" in said
    assert "c.jpg: No such file or directory" in said
    assert "None" not in said


def test_scenes_are_of_three_kinds_and_many_sizes_and_always_the_same(tmp_path: Path) -> None:
    one, two = draw_scenes(9, tmp_path / "one"), draw_scenes(9, tmp_path / "two")
    assert {sample.path.suffix for sample in one} == {".jpg", ".png", ".webp"}
    assert len({str(sample.metadata["side_px"]) for sample in one}) > 5
    assert [a.path.read_bytes() for a in one] == [b.path.read_bytes() for b in two]
    assert all(sample.words for sample in one)


def test_a_photograph_is_taken_of_what_is_stored_and_a_stranger_drawn(tmp_path: Path) -> None:
    samples = draw_scenes(6, tmp_path)
    asked: list[list[Path]] = []

    class Asked:
        async def match(self, paths: list[Path], *, collection: str) -> list[MatchResult]:
            assert collection == "demo"
            asked.append(paths)
            return [MatchResult(verdict=MatchVerdict.MATCH), MatchResult(verdict=MatchVerdict.NO_MATCH)]

    results = [IngestResult(index, id=str(index)) for index in range(6)]
    found = asyncio.run(matches(cast(Client, Asked()), "demo", samples, results, tmp_path))
    [[photograph, stranger]] = asked
    assert [(file.path, file.found.verdict) for file in found] == [(photograph, "match"), (stranger, "no match")]
    assert photograph.stem.removeprefix("photograph-of-") in {sample.path.stem for sample in samples}
    assert stranger.read_bytes() not in {sample.path.read_bytes() for sample in samples}
    for sample in samples:
        sample.path.write_bytes(b"nonsense")
    assert asyncio.run(matches(cast(Client, Asked()), "demo", samples, results, tmp_path)) == []


def test_captions_are_measured_against_the_truth(tmp_path: Path) -> None:
    samples = draw_scenes(4, tmp_path)
    wordings = [samples[0].words, samples[1].words.upper(), "a red house", ""]
    results = [IngestResult(index, id=str(index), caption=Caption(text)) for index, text in enumerate(wordings)]
    assert caption_accuracy(samples, results) == 0.5


def test_batches_are_shared_out_and_transactions_counted_once() -> None:
    timings = Timings(queue_us=1_000, preprocess_us=2_000, compute_us=8_000, total_us=11_000, batch_size=4)
    results = [IngestResult(index, encode=timings, describe=timings, store_us=6_000) for index in range(4)]
    shares = dict(time_shares(results))
    assert shares == {"decode": 4.0, "queue": 2.0, "encode": 2.0, "caption": 2.0, "store": 1.5}
    assert time_shares([]) == []


def test_what_counts_as_good() -> None:
    assert DemoFigures(images=1).good
    assert not DemoFigures(images=1, errors=1).good
    assert DemoFigures(recall_at_1=0.97, caption_accuracy=0.99).good
    assert not DemoFigures(recall_at_1=0.5, caption_accuracy=0.99).good
