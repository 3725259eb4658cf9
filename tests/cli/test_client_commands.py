"""ingest, search, embed, caption and status against a mesh of mocks."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import grpc
import numpy as np
import pyarrow.parquet
import pytest

from lensmesh.search.v1 import search_pb2, search_pb2_grpc
from lensmesh_client import Item, SyncClient
from tests.cli.in_process import User, lensmesh_here
from tests.support.meshes import Mesh, draw_images, environment
from tests.support.waiting import wait_until


class HereMesh(Mesh):
    """The shared mesh, asked by commands in this process."""

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        done = lensmesh_here(*arguments, LENSMESH_TARGET=self.target, XDG_STATE_HOME=str(self.data / "state"))
        return subprocess.CompletedProcess(arguments, done.code, done.out, done.err)


@pytest.fixture
def mesh(mesh: Mesh) -> Mesh:
    """The shared one."""
    return HereMesh(mesh.process, mesh.data, mesh.log, mesh.addresses)


def test_ingest_and_search(mesh: Mesh, tmp_path: Path) -> None:
    paths = draw_images(tmp_path / "in" / "deep", 12, start=100)
    (tmp_path / "in" / "notes.txt").write_text("no image")
    (tmp_path / "in" / ".hidden.png").write_bytes(b"no image")
    about = tmp_path / "about.jsonl"
    lines = [{"path": paths[0].name, "year": 1870}, {"path": f"deep/{paths[1].name}", "year": 1900, "tags": ["a", "b"]}]
    about.write_text("\n".join(json.dumps(line) for line in lines))
    stored = mesh.json("ingest", tmp_path / "in", "--collection", "one", "--metadata", about)
    assert (stored["stored"], stored["outcomes"], stored["failed"]) == (12, {"created": 12}, 0)

    found = mesh.json("search", "--image", paths[0], "--collection", "one", "-n", "3")["hits"]
    assert len(found) == 3
    assert found[0]["score"] == pytest.approx(1.0, abs=1e-3)
    assert found[0]["metadata"] == {"year": 1870}
    assert found[0]["image_uri"] == paths[0].as_uri()
    assert found[0]["caption"]

    like = mesh.json("search", "--like", found[0]["id"], "--collection", "one", "--exact")["hits"]
    assert len(like) == 10
    assert found[0]["id"] not in {hit["id"] for hit in like}

    late = mesh.json("search", "words", "--collection", "one", "-f", "year>=1880", "-f", 'tags=["b", "c"]')["hits"]
    assert [hit["metadata"]["year"] for hit in late] == [1900]

    page = tmp_path / "found.html"
    shown = mesh.run("search", "words", "--collection", "one", "--html", page)
    assert shown.returncode == 0
    assert paths[0].name in mesh.run("search", "--image", paths[0], "--collection", "one").stdout
    html = page.read_text()
    assert html.count("data:image/jpeg;base64,") == 10
    assert "<script" not in html
    assert "http" not in html


def test_stats(mesh: Mesh) -> None:
    fields = {"artist": "keyword", "taken": "time", "camera.iso": "number"}
    times = ["2026-01-31T23:30:00Z", "2026-02-03T00:30:00Z", "2026-02-03", "2026-02-03T12:00:00Z"]
    items = [
        Item(f"{i}", metadata={"artist": "Ada" if i else "[red]Bob\x1b", "taken": taken, "camera": {"iso": 100 * i}})
        for i, taken in enumerate(times)
    ]
    with SyncClient(mesh.target) as client:
        client.collections.create("stats", fields=fields)
        client.items.upsert(items, collection="stats")
    asked = (
        "--by-time",
        "taken:day",
        "--numbers",
        "camera.iso",
        "--distinct",
        "artist",
        "--time-zone",
        "Europe/Berlin",
    )
    found = mesh.json("stats", "--collection", "stats", *asked, "-f", "artist=Ada")
    assert found["item_count"] == 3
    assert found["results"]["taken:day by time"] == {
        "field": "taken",
        "item_count": 2,
        "interval": "day",
        "buckets": [{"start": "2026-02-03T00:00:00+01:00", "count": 2}],
    }
    assert found["results"]["different artist"]["distinct_count"] == 1
    assert found["results"]["numbers of camera.iso"]["sum"] == 600
    shown = mesh.run("stats", "--collection", "stats")
    assert shown.returncode == 0
    lines = shown.stdout.splitlines()
    # Without an interval the one that shows most is chosen, and days between others are there too.
    assert [line.split()[:3] for line in lines if line.startswith("2026-0")][-4:] == [
        ["2026-01-31", "Sat", "1"],
        ["2026-02-01", "Sun", "0"],
        ["2026-02-02", "Mon", "0"],
        ["2026-02-03", "Tue", "2"],
    ]
    assert "numbers of camera.iso: 4 numbers, 0 to 300, mean 150, sum 600" in lines
    assert any(line.startswith("[red]Bob\\x1b") and "█" in line for line in lines)
    assert mesh.run("stats", "--collection", "stats", "--by-time", "artist:day").returncode == 1
    assert mesh.run("stats", "--collection", "stats", "-f", "nonsense").returncode == 2


def test_several_queries_in_groups(mesh: Mesh, tmp_path: Path) -> None:
    paths = draw_images(tmp_path / "in", 4, start=150)
    about = tmp_path / "about.jsonl"
    about.write_text("\n".join(json.dumps({"path": path.name, "pair": n // 2}) for n, path in enumerate(paths)))
    stored = mesh.json("ingest", tmp_path / "in", "--collection", "several", "--metadata", about)
    assert stored["stored"] == 4
    [first] = mesh.json("search", "--image", paths[0], "--collection", "several", "-n", "1")["hits"]
    asked = ("--image", paths[1], "--like", first["id"], "--words", first["caption"], "--weight", "words=0.5")
    found = mesh.json("search", *asked, "--collection", "several", "--group-by", "pair", "--diversity", "0.1")
    assert [query["name"] for query in found["queries"]] == ["image", "like", "words"]
    # The item to be like is no hit, and of the other pair one is left.
    best, other = sorted(found["hits"], key=lambda hit: hit["group"])
    assert (best["group"], other["group"]) == ([0], [1])
    assert best["image_uri"] == paths[1].as_uri()
    assert best["legs"][0] == {"name": "image", "score": pytest.approx(1.0, abs=1e-3), "rank": 1}
    page = tmp_path / "found.html"
    size = ("--group-by", "pair", "--group-size", "2")
    assert mesh.run("search", *asked, "--collection", "several", *size, "--html", page).returncode == 0
    # The group of one hit has its name on the card.
    assert ("<h3>pair 1</h3>" in page.read_text(), ">pair 0</small>" in page.read_text()) == (True, True)
    kept = mesh.json("search", "x", "--collection", "several", "--filter", f"$caption=~{first['caption']}")["hits"]
    assert first["id"] in {hit["id"] for hit in kept}


def test_calibrate(mesh: Mesh, tmp_path: Path) -> None:
    draw_images(tmp_path / "in", 60, start=4_000)
    mesh.json("ingest", tmp_path / "in", "--collection", "measured")
    refused = mesh.run("search", "words", "--collection", "measured", "--min-relevance", "0.5")
    assert (refused.returncode, "NOT_CALIBRATED" in refused.stderr) == (1, True)
    by_image, by_text = mesh.json("calibrate", "--collection", "measured", "--texts", "30")["calibrations"]
    assert (by_image["modality"], by_image["match_median"], by_image["pair_count"]) == ("image", 1.0, 60 * 59 // 2)
    # Without a text's own image, and the two that are nearest to that.
    assert (by_text["modality"], by_text["pair_count"]) == ("text", 30 * 57)
    [path] = sorted((tmp_path / "in").rglob("*.png"))[:1] or sorted((tmp_path / "in").iterdir())[:1]
    hits = mesh.json("search", "--image", path, "--collection", "measured", "--min-relevance", "0.9")["hits"]
    assert [(hit["relevance"], hit["image_uri"]) for hit in hits] == [(pytest.approx(1, abs=1e-3), path.as_uri())]
    assert "relevance" in mesh.run("search", "words", "--collection", "measured").stdout
    again = mesh.run("calibrate", "measured", "--texts", "0")
    # The table's header takes two lines on a narrow terminal.
    firsts = [line.split()[0] for line in again.stdout.splitlines()]
    assert [first for first in firsts if first in ("image", "text")] == ["image"]
    assert mesh.run("calibrate", "--collection", "measured", "--texts", "5").returncode == 2
    assert mesh.run("calibrate", "--collection", "measured", "--space", "none").returncode == 2


def test_a_bad_image_fails_alone(mesh: Mesh, tmp_path: Path) -> None:
    draw_images(tmp_path, 3, start=200)
    (tmp_path / "bad.jpg").write_bytes(b"nonsense")
    stored = mesh.json("ingest", tmp_path, "--collection", "bad", code=1)
    assert (stored["stored"], stored["failed"]) == (3, 1)
    assert stored["errors"][0]["reason"] == "IMAGE_UNDECODABLE"
    said = mesh.run("ingest", tmp_path, "--collection", "bad")
    assert said.returncode == 1
    assert "bad.jpg" in said.stderr
    assert "3 were stored by a run before" in said.stderr


def test_a_run_that_broke_off_goes_on(mesh: Mesh, tmp_path: Path) -> None:
    paths = draw_images(tmp_path / "in", 6, start=300)
    journal = tmp_path / "journal.jsonl"
    first = mesh.json("ingest", *paths[:4], "--collection", "two", "--journal", journal)
    assert first["stored"] == 4
    # As if the power had gone in the middle of a line.
    journal.write_text(journal.read_text() + '{"path": "/half/a')
    paths[0].write_bytes(draw_images(tmp_path / "other", 1, start=350)[0].read_bytes())
    second = mesh.json("ingest", *paths, "--collection", "two", "--journal", journal)
    assert second["skipped"] == 3
    assert second["stored"] == 3
    third = mesh.json("ingest", *paths, "--collection", "two", "--journal", journal)
    assert (third["stored"], third["skipped"]) == (0, 6)
    fresh = mesh.json("ingest", *paths, "--collection", "two", "--journal", journal, "--fresh")
    assert fresh["outcomes"] == {"unchanged": 6}


def test_ctrl_c_ends_a_run_and_the_next_goes_on(mesh: Mesh, tmp_path: Path) -> None:
    # Many: the run must not be over before the signal comes.
    draw_images(tmp_path / "in", 4_000, start=3_000)
    journal = tmp_path / "journal.jsonl"
    arguments = ("ingest", str(tmp_path / "in"), "--collection", "broken-off", "--journal", str(journal))
    broken = subprocess.Popen(
        [sys.executable, "-m", "lensmesh_cli", *arguments],
        env=environment(LENSMESH_TARGET=mesh.target),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: journal.exists() and journal.stat().st_size > 0, "something is stored")
    broken.send_signal(signal.SIGINT)
    _, said = broken.communicate(timeout=120)
    assert broken.returncode == 130, said
    assert "interrupted" in said
    assert "Traceback" not in said
    after = mesh.json(*arguments)
    assert after["skipped"] > 0
    assert after["skipped"] + after["stored"] == 4_000


def test_names_of_any_bytes_and_bad_paths_beside_good_ones(user: User, tmp_path: Path) -> None:
    paths = draw_images(tmp_path / "in", 3, start=470)
    name = b"n\xff\n\x1b[31m\xe2\x80\xae.png"
    paths[0].rename(os.fsdecode(os.fsencode(tmp_path / "in") + b"/" + name))
    (tmp_path / "in" / "gone\n\x1b.jpg").symlink_to("/nowhere/x")
    os.mkfifo(tmp_path / "in" / "pipe.jpg")
    (tmp_path / "in" / "zero.jpg").symlink_to("/dev/zero")
    arguments = ("ingest", tmp_path / "in", "--collection", "odd-names")
    done = user.run(*arguments, "--json")
    assert done.code == 1
    assert len(done.out.splitlines()) == 1
    told = json.loads(done.out)
    assert (told["stored"], told["failed"]) == (3, 3)
    assert {Path(one["path"]).name for one in told["errors"]} == {"gone\n\x1b.jpg", "pipe.jpg", "zero.jpg"}
    said = user.run(*arguments)
    assert "gone\\n\\x1b.jpg" in said.err or "gone\\x0a\\x1b.jpg" in said.err
    assert not {"\x1b", "\u202e"} & {*said.out, *said.err}
    hits = user.json("search", "x", "--collection", "odd-names")["hits"]
    assert any(hit["image_uri"].endswith("/n%FF%0A%1B%5B31m%E2%80%AE.png") for hit in hits)
    assert "n\\xff" in user.run("search", "x", "--collection", "odd-names").out
    embedded = user.json("embed", tmp_path / "in", "-o", tmp_path / "v.jsonl", code=1)
    assert (embedded["vectors"], len(embedded["errors"])) == (3, 3)
    assert len((tmp_path / "v.jsonl").read_text().splitlines()) == 3
    captions = user.json("caption", *sorted((tmp_path / "in").iterdir()), code=1)
    assert [bool(one["caption"]) for one in captions].count(True) == 3


def test_words_that_no_message_holds_are_no_defect(user: User, tmp_path: Path) -> None:
    draw_images(tmp_path / "in", 1, start=480)
    for arguments in (("ingest", tmp_path / "in"), ("search", "x")):
        done = user.run(*arguments, "--collection", os.fsdecode(b"caf\xe9"))
        assert done.code == 1
        assert "surrogate" in done.err
        assert "defect" not in done.err


def test_a_collection_that_was_deleted_is_filled_again(user: User, tmp_path: Path) -> None:
    draw_images(tmp_path / "in", 2, start=480)
    arguments = ("ingest", tmp_path / "in", "--collection", "anew", "--journal", tmp_path / "journal")
    assert user.json(*arguments)["stored"] == 2
    assert user.json(*arguments)["skipped"] == 2
    with grpc.insecure_channel(user.target) as channel:
        search_pb2_grpc.SearchServiceStub(channel).DeleteCollection(search_pb2.DeleteCollectionRequest(name="anew"))
    draw_images(tmp_path / "other", 1, start=482)
    # Made anew by somebody else, in the meantime.
    assert user.json("ingest", tmp_path / "other", "--collection", "anew")["stored"] == 1
    assert user.json(*arguments)["stored"] == 2
    assert len(user.json("search", "x", "--collection", "anew")["hits"]) == 3


def test_a_finished_run_leaves_no_journal(mesh: Mesh, tmp_path: Path) -> None:
    draw_images(tmp_path / "in", 2, start=400)
    assert mesh.json("ingest", tmp_path / "in", "--collection", "three")["outcomes"] == {"created": 2}
    again = mesh.json("ingest", tmp_path / "in", "--collection", "three")
    assert (again["outcomes"], again["skipped"]) == ({"unchanged": 2}, 0)


def test_captions_can_be_left_out(mesh: Mesh, tmp_path: Path) -> None:
    paths = draw_images(tmp_path, 1, start=450)
    mesh.json("ingest", tmp_path, "--collection", "silent", "--captions", "none")
    assert mesh.json("search", "--image", paths[0], "--collection", "silent")["hits"][0]["caption"] is None


@pytest.mark.parametrize("suffix", [".npy", ".jsonl", ".parquet"])
def test_embed(mesh: Mesh, tmp_path: Path, suffix: str) -> None:
    paths = draw_images(tmp_path / "in", 5, start=500)
    bad = tmp_path / "in" / "a-bad.jpg"
    bad.write_bytes(b"nonsense")
    output = tmp_path / f"vectors{suffix}"
    told = mesh.json("embed", tmp_path / "in", "-o", output, code=1)
    assert (told["vectors"], told["dimension"]) == (5, 512)
    assert told["errors"][0]["path"] == str(bad)
    names, vectors = READERS[suffix](output)
    assert names == [str(path) for path in paths]
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


def _npy(path: Path) -> tuple[list[str], np.ndarray]:
    return path.with_suffix(".paths.txt").read_text().splitlines(), np.load(path)


def _jsonl(path: Path) -> tuple[list[str], np.ndarray]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [row["path"] for row in rows], np.array([row["vector"] for row in rows])


def _parquet(path: Path) -> tuple[list[str], np.ndarray]:
    table = pyarrow.parquet.read_table(path)
    return table["path"].to_pylist(), np.array(table["vector"].to_pylist())


READERS = {".npy": _npy, ".jsonl": _jsonl, ".parquet": _parquet}


def test_caption(mesh: Mesh, tmp_path: Path) -> None:
    paths = draw_images(tmp_path, 2, start=600)
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"nonsense")
    first, second, third = mesh.json("caption", *paths, bad, code=1)
    assert first["caption"]
    assert first["caption"] != second["caption"]
    assert third["error"]["reason"] == "IMAGE_UNDECODABLE"
    assert first["caption"] in mesh.run("caption", paths[0]).stdout


def test_status_tells_memory_of_every_service(mesh: Mesh) -> None:
    status = mesh.json("status")
    assert status["serving"] is True
    assert {service["kind"] for service in status["services"]} == {"encoder", "caption", "search"}
    encoder = next(service for service in status["services"] if service["kind"] == "encoder")
    assert encoder["models"][0]["kind"] == "mock"
    # The bounds of this project: mocks and the services without models are small.
    assert 10 < encoder["memory_mb"] <= 150
    assert all(10 < service["memory_mb"] <= 200 for service in [*status["services"], status["router"]])
    shown = mesh.run("status").stdout
    assert all(word in shown for word in ("router", "encoder", "caption", "search", "mock", " MB"))


def test_an_unknown_collection_is_code_1(mesh: Mesh) -> None:
    done = mesh.run("search", "a", "--collection", "nowhere")
    assert done.returncode == 1
    assert "COLLECTION_NOT_FOUND" in done.stderr
