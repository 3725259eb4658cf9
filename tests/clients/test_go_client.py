"""The Go client: generated from the contracts, tested by itself, and at work on a real mesh."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lensmesh_client import SyncClient
from tests.support.meshes import Mesh, draw_images
from tests.support.tools import ROOT, need
from tests.support.waiting import wait_until

CLIENT = ROOT / "clients" / "go"
PATIENCE_S = 600.0


def go(*arguments: str | Path, folder: Path = CLIENT) -> str:
    """What the go command prints; the test fails where it does."""
    environment = {**os.environ, "GOFLAGS": "-mod=readonly -buildvcs=false", "GOTOOLCHAIN": "local"}
    command = [str(need("go")), *map(str, arguments)]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program that ingests a folder and searches it."""
    program = tmp_path_factory.mktemp("go") / "ingest"
    go("build", "-o", program, "./examples/ingest")
    return program


def made(folder: Path) -> dict[str, bytes]:
    """What the generator writes, by its name below `folder`."""
    paths = [folder / "reasons.go", *sorted((folder / "gen").rglob("*.go"))]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_generated_go_is_what_the_contracts_make(tmp_path: Path) -> None:
    need("go")
    command: list[str | Path] = [sys.executable, CLIENT / "generate.py", "--out", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    there, new = made(CLIENT), made(tmp_path)
    assert there.keys() == new.keys()
    assert not [name for name in new if new[name] != there[name]], "run `make -C clients/go generate`"


def test_the_client_is_formatted_and_passes_vet_and_its_own_tests() -> None:
    written = [path for path in CLIENT.rglob("*.go") if "gen" not in path.relative_to(CLIENT).parts]
    assert len(written) > 10
    gofmt = subprocess.run([need("gofmt"), "-l", *written], capture_output=True, text=True, check=True)
    assert gofmt.stdout == ""
    go("vet", "./...")
    assert "ok" in go("test", "./...")


def test_the_example_ingests_a_folder_and_searches_it(mesh: Mesh, example: Path, tmp_path: Path) -> None:
    draw_images(tmp_path / "images", 40)
    (tmp_path / "images" / "broken.png").write_bytes(b"no image")
    command: list[str | Path] = [
        example,
        "-target",
        mesh.target,
        "-collection",
        "go",
        tmp_path / "images",
        "a red boat",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    told, *hits = done.stdout.splitlines()
    assert told == "41 images, 1 of them failed"
    assert "broken.png: IMAGE_UNDECODABLE" in done.stderr
    with SyncClient(mesh.target) as client:
        ids = {item.id for item in client.items.list(collection="go")}
    assert len(ids) == 40
    assert len(hits) == 5
    assert {hit.split()[1] for hit in hits} <= ids


def stored(client: SyncClient, collection: str) -> bool:
    """Whether the collection has an item."""
    return any(one.name == collection and one.item_count for one in client.collections.list())


def test_an_ingest_outlives_its_router(mesh: Mesh, example: Path, tmp_path: Path) -> None:
    draw_images(tmp_path / "images", 600)
    command: list[str | Path] = [
        example,
        "-target",
        mesh.target,
        "-collection",
        "go-resumed",
        tmp_path / "images",
        "a red boat",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        with SyncClient(mesh.target) as client:
            wait_until(lambda: stored(client, "go-resumed"), "the first images are stored")
        os.kill(mesh.pid("router"), signal.SIGKILL)
        out, error = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, out + error
    assert out.startswith("600 images, 0 of them failed")
    assert "items are sent again" in error


def test_the_page_s_program_runs_in_a_module_of_its_own(mesh: Mesh, tmp_path: Path) -> None:
    [source] = re.findall(r"```go\n(.*?)```", (ROOT / "docs" / "clients.md").read_text(), re.DOTALL)
    draw_images(tmp_path / "photographs", 3)
    for shown, real in (("127.0.0.1:50050", mesh.target), ('"photographs"', f'"{tmp_path / "photographs"}"')):
        assert shown in source
        source = source.replace(shown, real)
    (tmp_path / "main.go").write_text(source)
    (tmp_path / "go.mod").write_text("module example\n\ngo 1.25.0\n")
    go("mod", "edit", "-replace", f"lensmesh/clients/go={CLIENT}", folder=tmp_path)
    go("get", "lensmesh/clients/go", folder=tmp_path)
    told = go("run", ".", folder=tmp_path)
    assert "3 done, 0 failed" in told
    assert "TEXT_EMPTY" in told
    assert "NotFound" in told
