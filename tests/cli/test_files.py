"""Which pictures a command line means, and what a metadata file says of them."""

import json
from pathlib import Path

import pytest
import typer

from lensmesh_cli.files import Metadata, pictures
from lensmesh_cli.journal import default_path, fingerprint


def test_files_as_named_and_folders_below(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", "deep/c.webp", "deep/.d.png", ".deep/e.png", "f.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    named = tmp_path / "f.txt"
    found = pictures([named, tmp_path, tmp_path / "a.jpg"])
    assert [path.relative_to(tmp_path).as_posix() for path in found] == ["f.txt", "a.jpg", "b.PNG", "deep/c.webp"]


def test_metadata_matches_the_longest_path(tmp_path: Path) -> None:
    lines = [{"path": "c.jpg", "n": 1}, {"path": "./b/c.jpg", "n": 2}, {"path": str(tmp_path / "d.jpg"), "n": 3}]
    source = tmp_path / "about.jsonl"
    source.write_text("\n\n".join(json.dumps(line) for line in lines))
    about = Metadata(source)
    assert len(about) == 3
    assert about.of(Path("x/c.jpg")) == {"n": 1}
    assert about.of(Path("a/b/c.jpg")) == {"n": 2}
    assert about.of(tmp_path / "d.jpg") == {"n": 3}
    assert about.of(Path("other.jpg")) is None


@pytest.mark.parametrize("line", ["{", "[]", "{}", '{"path": 3}'])
def test_a_bad_metadata_line_is_named(tmp_path: Path, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "about.jsonl"
    source.write_text('{"path": "a"}\n' + line)
    with pytest.raises(typer.Exit):
        Metadata(source)
    assert "line 2" in capsys.readouterr().err


def test_fingerprints_change_with_the_file_and_with_what_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"one")
    first = fingerprint(path, None)
    assert fingerprint(path, None) == first
    assert fingerprint(path, {"a": 1}) != first
    path.write_bytes(b"more")
    assert fingerprint(path, None) != first


def test_each_mesh_collection_and_set_of_paths_has_its_journal(tmp_path: Path) -> None:
    one = default_path("a:1", "c", [tmp_path])
    assert default_path("a:1", "c", [tmp_path]) == one
    assert len({one, default_path("b:1", "c", [tmp_path]), default_path("a:1", "d", [tmp_path])}) == 3
