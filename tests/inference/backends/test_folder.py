"""The folder of compiled models under damage, races and missing rights."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest

from lensmesh_inference.backends.folder import CompiledFolder


class Maker:
    """Writes one file and counts how often."""

    def __init__(self, text: str = "made") -> None:
        self.text = text
        self.count = 0

    def __call__(self, into: Path) -> None:
        self.count += 1
        (into / "model").write_text(self.text)


def test_made_once_for_each_key(tmp_path: Path) -> None:
    make = Maker()
    first = CompiledFolder(tmp_path / "new").entry("kind", {"key": 1}, make)
    again = CompiledFolder(tmp_path / "new").entry("kind", {"key": 1}, make)
    other = CompiledFolder(tmp_path / "new").entry("kind", {"key": 2}, make)
    assert (again.path / "model").read_text() == "made"
    assert again.path == first.path != other.path
    assert (first.reused, again.reused, other.reused) == (False, True, False)
    assert make.count == 2
    first.close()
    assert first.path.is_dir()


@pytest.mark.parametrize("harm", ["changed", "shortened", "removed", "no checksums", "checksums cut"])
def test_damage_is_seen_and_repaired(harm: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder, make = CompiledFolder(tmp_path), Maker()
    place = folder.entry("kind", 1, make).path
    match harm:
        case "changed":
            (place / "model").write_text("mode!")
        case "shortened":
            (place / "model").write_text("mad")
        case "removed":
            (place / "model").unlink()
        case "no checksums":
            (place / "checksums.json").unlink()
        case "checksums cut":
            (place / "checksums.json").write_text('{"model"')
    repaired = folder.entry("kind", 1, make)
    assert make.count == 2
    assert (repaired.path / "model").read_text() == "made"
    assert "is damaged" in caplog.text
    assert folder.entry("kind", 1, make).reused


def test_a_maker_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail(into: Path) -> None:
        (into / "half").write_text("x")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        CompiledFolder(tmp_path).entry("kind", 1, fail)
    assert not list(tmp_path.iterdir())


def test_many_at_once_do_not_spoil_each_other(tmp_path: Path) -> None:
    together = threading.Barrier(4)
    texts: list[str] = []

    def make(into: Path) -> None:
        (into / "model").write_text("made")
        # All have begun before the first is done.
        together.wait(30)

    def start() -> None:
        texts.append((CompiledFolder(tmp_path).entry("kind", 1, make).path / "model").read_text())

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert texts == ["made"] * 4
    assert [path.name.startswith("kind-") for path in tmp_path.iterdir()] == [True]
    assert CompiledFolder(tmp_path).entry("kind", 1, Maker()).reused


def test_where_nothing_can_be_written_it_only_warns(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("not a folder")
    make = Maker()
    with caplog.at_level(logging.WARNING):
        entry = CompiledFolder(tmp_path / "file" / "below").entry("kind", 1, make)
    assert "cannot be kept" in caplog.text
    assert (entry.path / "model").read_text() == "made"
    entry.close()
    assert not entry.path.exists()


def test_without_a_folder_nothing_is_kept() -> None:
    make = Maker()
    for _ in range(2):
        entry = CompiledFolder(None).entry("kind", 1, make)
        assert not entry.reused
        entry.close()
        assert not entry.path.exists()
    assert make.count == 2
