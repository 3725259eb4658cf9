"""What a metadata file says of images: which line fits which name."""

import json
import os
import unicodedata
from pathlib import Path

import pytest
import typer

from lensmesh_cli.ingest.metadata import Metadata


def written(folder: Path, *lines: dict[str, object]) -> Metadata:
    source = folder / "about.jsonl"
    source.write_text("\n\n".join(json.dumps(line) for line in lines))
    return Metadata(source)


def test_the_longest_path_counts(tmp_path: Path) -> None:
    about = written(
        tmp_path,
        *({"path": "c.jpg", "n": 1}, {"path": "./b/c.jpg", "n": 2}, {"path": str(tmp_path / "d.jpg"), "n": 3}),
        {"path": "typo.jpg", "n": 4},
    )
    assert len(about) == 4
    assert about.of(Path("x/c.jpg")) == {"n": 1}
    assert about.of(Path("a/b/c.jpg")) == {"n": 2}
    assert about.of(tmp_path / "d.jpg") == {"n": 3}
    assert about.of(Path("other.jpg")) is None
    assert about.unused == ["typo.jpg"]


def test_composed_and_decomposed_accents_are_one_name(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "Ü/é.jpg") for form in ("NFC", "NFD"))
    assert composed != decomposed
    assert written(tmp_path, {"path": composed, "n": 1}).of(Path("in") / decomposed) == {"n": 1}
    assert written(tmp_path, {"path": decomposed, "n": 1}).of(Path("in") / composed) == {"n": 1}
    both = written(tmp_path, {"path": composed, "n": 1}, {"path": decomposed, "n": 2})
    assert (both.of(Path(composed)), both.of(Path(decomposed))) == ({"n": 1}, {"n": 2})
    assert both.unused == []


def test_bytes_that_are_not_utf_8_are_named_as_they_are_shown(tmp_path: Path) -> None:
    path = Path(os.fsdecode(b"in/a\xff.jpg"))
    assert written(tmp_path, {"path": "a\\xff.jpg", "n": 1}).of(path) == {"n": 1}
    assert written(tmp_path, {"path": "a\udcff.jpg", "n": 1}).of(path) == {"n": 1}


@pytest.mark.parametrize("line", ["{", "[]", "{}", '{"path": 3}', '{"path": "a", "b": ' + "[" * 100_000])
def test_a_bad_line_is_named(tmp_path: Path, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "about.jsonl"
    source.write_text('{"path": "a"}\n' + line)
    with pytest.raises(typer.Exit):
        Metadata(source)
    assert "line 2" in capsys.readouterr().err


@pytest.mark.parametrize(("source", "says"), [("/dev/zero", "line 1 has more than"), ("/nowhere/a", "No such file")])
def test_a_source_that_is_none_is_said(source: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit):
        Metadata(Path(source))
    assert says in capsys.readouterr().err
