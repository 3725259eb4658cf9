"""`lensmesh bench` against a mesh of mocks: every mode, both loops, files for programs and people."""

import json
from pathlib import Path

import pytest

from tests.support.meshes import Mesh, draw_images, lensmesh

QUICK = ("--seconds", "0.5", "--warm", "0.2")


def test_images_in_every_mode(mesh: Mesh, tmp_path: Path) -> None:
    draw_images(tmp_path / "in", 3, start=900)
    found, drawn = tmp_path / "bench.json", tmp_path / "bench.png"
    done = mesh.run(
        "bench", tmp_path / "in", *QUICK, "--concurrency", "1,8", "--batch", "4", "--rates", "20,40",
        "--json", found, "--picture", drawn,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(found.read_text())["rows"]
    assert [(row["mode"], row["concurrency"]) for row in rows] == [
        *((mode, callers) for mode in ("unary", "batch", "stream") for callers in (1, 8)),
        ("unary", 0),
        ("unary", 0),
    ]
    assert [row["figures"]["offered"] for row in rows[-2:]] == [20, 40]
    for row in rows:
        figures = row["figures"]
        assert figures["items"] > 0
        assert figures["errors"] == {}
        latency = figures["latency_ms"]
        assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"] <= latency["max"]
        # Each went through the mock itself: no cache had seen it.
        assert figures["cached"] == 0
        assert figures["split_ms"]["batch"] >= 1
    assert drawn.read_bytes().startswith(b"\x89PNG")
    assert "unary, 8 callers" in done.stdout
    assert "8 of 8" in done.stderr
    assert "mock" in done.stderr


def test_texts_at_one_service(mesh: Mesh) -> None:
    encoder = mesh.addresses["encoder"]
    done = mesh.run(
        "bench", "--texts", *QUICK, "--modes", "unary", "--concurrency", "2", "--rates", "none", "--json", "-",
        "--target", encoder,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(done.stdout)
    assert document["target"] == encoder
    (row,) = document["rows"]
    assert row["figures"]["items"] > 0
    assert row["figures"]["cached"] == 0


def test_made_images_and_shares_of_the_best_rate(mesh: Mesh) -> None:
    done = mesh.run("bench", *QUICK, "--modes", "stream", "--concurrency", "4", "--json", "-")
    assert done.returncode == 0, done.stdout + done.stderr
    closed, *opened = json.loads(done.stdout)["rows"]
    best = closed["figures"]["rate"]
    assert [row["figures"]["offered"] for row in opened] == pytest.approx(
        [best * share for share in (0.25, 0.5, 0.75, 0.9)]
    )


def test_errors_are_counted_and_told(mesh: Mesh, tmp_path: Path) -> None:
    draw_images(tmp_path, 1, start=950)
    (tmp_path / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0" + b"0" * 300)
    done = mesh.run("bench", tmp_path, *QUICK, "--modes", "unary", "--concurrency", "1", "--rates", "none")
    assert done.returncode == 1
    assert "IMAGE_TRUNCATED" in done.stdout or "IMAGE_UNDECODABLE" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--modes", "both"), "--modes: 'both' is none of unary, batch, stream"),
        (("--concurrency", "0"), "--concurrency takes numbers above 0"),
        (("--rates", "many"), "--rates takes numbers with commas between them, not 'many'"),
        (("--picture", "bench.txt"), "must end in one of .png, .svg, .pdf"),
        (("/nowhere/at/all",), "does not exist"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], says: str) -> None:
    done = lensmesh("bench", *arguments)
    assert done.returncode == 2
    assert says in done.stderr


def test_a_batch_larger_than_a_call(mesh: Mesh) -> None:
    done = mesh.run("bench", "--modes", "batch", "--batch", "100000")
    assert done.returncode == 2
    assert "--batch 100000 is more than the 256 items" in done.stderr


def test_nobody_there() -> None:
    done = lensmesh("bench", "--target", "127.0.0.1:1", "--timeout", "5")
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
