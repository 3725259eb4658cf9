"""gen/ is exactly what protos/ makes, and the contracts keep buf's rules."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUF = Path(sys.executable).parent / "buf"


def tree(folder: Path) -> dict[str, bytes]:
    """Every generated file below `folder` by its relative name."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted((folder / "lensmesh").rglob("*"))
        if path.is_file() and path.suffix != ".pyc"
    }


def test_generated_code_is_what_the_contracts_make(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, ROOT / "protos" / "generate.py", "--out", tmp_path], check=True, capture_output=True
    )
    made, committed = tree(tmp_path), tree(ROOT / "gen")
    assert made.keys() == committed.keys()
    different = [name for name in made if made[name] != committed[name]]
    assert not different, f"run `make gen`: {different}"


def test_contracts_pass_lint_format_and_compatibility() -> None:
    command = [sys.executable, "-m", "protos.check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        ("string space_id = 1;", "string vector_space = 1;", "changed name"),
        ("service EncoderService {", "service Encoder {", "was deleted"),
        ("rpc EncodeTexts(", "rpc EmbedTexts(", "was deleted"),
        ("bool readable = 2;", "uint32 readable = 2;", "changed type"),
    ],
)
def test_a_breaking_change_is_seen(tmp_path: Path, old: str, new: str, finding: str) -> None:
    """The compatibility check has teeth: a copy of the contracts with one incompatible change is refused."""
    shutil.copytree(ROOT / "protos", tmp_path / "protos")
    shutil.copytree(ROOT / "build" / "googleapis", tmp_path / "build" / "googleapis")
    shutil.copyfile(ROOT / "buf.yaml", tmp_path / "buf.yaml")
    baseline = tmp_path / "baseline.binpb"
    subprocess.run([BUF, "build", "protos", "--output", baseline], cwd=tmp_path, check=True)
    changed = [path for path in (tmp_path / "protos").rglob("*.proto") if old in path.read_text()]
    assert changed
    for path in changed:
        path.write_text(path.read_text().replace(old, new))
    done = subprocess.run(
        [BUF, "breaking", "protos", "--against", baseline], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert finding in done.stdout
