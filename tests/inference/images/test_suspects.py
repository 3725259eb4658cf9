"""What was being decoded when a process ended is known to the next one; what was done in good order is not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lensmesh_inference.images.suspects import Suspects, state_folder

ROOT = Path(__file__).resolve().parents[3]
DIES = """
import os, sys
from pathlib import Path
from lensmesh_inference.images.suspects import Suspects
suspects = Suspects(Path(sys.argv[1]))
with suspects.decoding(b"done"):
    pass
with suspects.decoding(b"deadly"), suspects.decoding(b"beside it"):
    os.kill(os.getpid(), 9)
"""


def test_what_a_killed_process_decoded_is_suspected_by_all_that_start_later(tmp_path: Path) -> None:
    running = Suspects(tmp_path)
    with running.decoding(b"in a process that runs"):
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = [sys.executable, "-c", DIES, str(tmp_path)]
        assert subprocess.run(command, check=False, cwd=ROOT, env=environment).returncode == -9
        for _ in range(2):
            later = Suspects(tmp_path)
            assert b"deadly" in later
            assert b"beside it" in later
            assert b"done" not in later
            assert b"in a process that runs" not in later
            later.close()
    running.close()
    assert [path.name for path in tmp_path.iterdir()] == ["suspects"]


def test_a_process_that_ends_in_good_order_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    suspects = Suspects(folder)
    with pytest.raises(ZeroDivisionError), suspects.decoding(b"bad, not deadly"):
        raise ZeroDivisionError
    suspects.close()
    assert list(folder.iterdir()) == []
    assert b"bad, not deadly" not in Suspects()


def test_a_folder_that_cannot_be_written_costs_a_line_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    suspects = Suspects(tmp_path / "file" / "folder")
    with suspects.decoding(b"image"):
        assert b"image" not in suspects
    assert len(caplog.records) == 1


def test_more_images_at_a_time_than_slots() -> None:
    suspects = Suspects()
    held = [suspects.decoding(b"%d" % number) for number in range(70)]
    for one in held:
        one.__enter__()
    for one in held:
        one.__exit__(None, None, None)


def test_where_the_state_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert state_folder("") is None
    assert state_folder("/var/lib/x") == Path("/var/lib/x")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert state_folder("auto") == tmp_path / "lensmesh" / "decoding"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert state_folder("auto") == Path.home() / ".cache" / "lensmesh" / "decoding"
