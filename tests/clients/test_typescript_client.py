"""The TypeScript client: its generated code, its own tests, and its calls to a real mesh and a real front door."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import npm
from tests.support.meshes import Mesh, draw_images
from tests.support.tools import ROOT

PACKAGE = ROOT / "clients" / "typescript"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package, installed and built, with what the page about it shows."""
    copy = npm.copied(PACKAGE, tmp_path_factory.mktemp("typescript"))
    shown = re.findall(r"^```ts\n(.*?)^```", (ROOT / "docs" / "clients.md").read_text(), re.DOTALL | re.MULTILINE)
    assert len(shown) == 2
    for number, text in enumerate(shown):
        (copy / "examples" / f"page-{number}.ts").write_text(text)
    npm.run(copy, "npm", "run", "build")
    return copy


def test_its_own_tests_pass(package: Path) -> None:
    said = npm.run(package, "npm", "test")
    assert re.search(r"^# fail 0$", said, re.MULTILINE)
    assert int(re.search(r"^# pass (\d+)$", said, re.MULTILINE)[1]) > 40  # type: ignore[index]


def test_generated_code_is_what_the_contracts_make(package: Path, tmp_path: Path) -> None:
    made = tmp_path / "gen"
    command: list[str | Path] = [sys.executable, PACKAGE / "generate.py", "--out", made, "--package", package]
    subprocess.run(command, check=True, timeout=npm.PATIENCE_S)
    committed = PACKAGE / "src" / "gen"
    assert _tree(made).keys() == _tree(committed).keys()
    different = [name for name, text in _tree(made).items() if _tree(committed)[name] != text]
    assert not different, f"run `python clients/typescript/generate.py`: {different}"


def test_calls_to_a_real_mesh(package: Path, mesh: Mesh, tmp_path: Path) -> None:
    draw_images(tmp_path, 12)
    where = {
        "LENSMESH_TARGET": mesh.target,
        "LENSMESH_HTTP": f"http://{mesh.addresses['http']}",
        "LENSMESH_IMAGES": str(tmp_path),
    }
    said = npm.run(package, "node", "--test", "dist/test/live/live.test.js", **where)
    assert re.search(r"^# pass 4$", said, re.MULTILINE), said


def test_the_example_ingests_a_folder_and_searches(package: Path, mesh: Mesh, tmp_path: Path) -> None:
    draw_images(tmp_path / "below", 3)
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    where = {"LENSMESH_TARGET": mesh.target, "LENSMESH_COLLECTION": "example"}
    said = npm.run(package, "node", "dist/examples/ingest-and-search.js", tmp_path, "a shape", **where)
    lines = said.splitlines()
    assert "below/p0001.png: created" in lines
    assert any(line.startswith("broken.jpg: failed (IMAGE_UNDECODABLE") for line in lines), said
    found = [line for line in lines if re.match(r"-?\d\.\d{3} below/p\d{4}\.png \S", line)]
    assert len(found) == 3, said


def test_versions_are_exact_and_no_address_is_committed() -> None:
    files = [path for path in PACKAGE.rglob("*") if path.is_file() and not _installed(path)]
    assert PACKAGE / "package-lock.json" in files
    named = re.compile(r'"resolved"|registry\.|\bnpmjs\b')
    for path in files:
        if path.name == ".npmrc":
            continue
        assert not named.search(path.read_text(encoding="utf-8")), path
    assert "http" not in (PACKAGE / "package-lock.json").read_text()
    versions = re.findall(r'^    "@?[\w/-]+": "([^"]+)"', (PACKAGE / "package.json").read_text(), re.MULTILINE)
    wanted = [version for version in versions if not version.startswith((".", "tsc", "node ", ">="))]
    assert len(wanted) == 7
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in wanted)


def _installed(path: Path) -> bool:
    return bool({"node_modules", "dist", "__pycache__"} & set(path.relative_to(PACKAGE).parts))


def _tree(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
