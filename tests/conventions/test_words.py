"""One word for one thing: docs/glossary.md says which."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Generated code repeats the contracts' comments, and those change with a contract only.
NOT_OURS = {".venv", ".tools", ".git", "build", "gen", "protos"}
SUFFIXES = {".md", ".py", ".sh", ".toml", ".yaml", ".yml"}
WORD = re.compile("pictur", re.IGNORECASE)
# Where the other word for an image stays: below which path, which text, and why.
EXCEPTIONS = (
    ("", r"--pictures?\b", "options' names are interfaces"),
    ("", r"~/Pictures\b", "the folder's name on people's machines"),
    ("", r"`pictures`|lensmesh\.pictures\.", "a collection's name, as an example"),
    ("docs", r"--namespace pictures\b", "a namespace's name, as an example"),
    ("tests", r"""["'/][Pp]ictures["'/]""", "names of collections and namespaces in tests"),
    ("tests/caption/fakes.py", r'"picture"', "a word that the tiny captioner knows"),
    ("caption_svc/models/parity.py", r'"picture"', "part of a key: what is kept under it would be computed again"),
    ("encoder_svc/evaluate.py", r'"pictures"', "a field of the JSON report"),
    ("lensmesh_cli/demo/run.py", r"""["']pictures["']""", "the folder of a demo that is kept"),
    ("lensmesh_shapes/captions.py", r"\ba picture (of|with)\b", "wordings that the bundled models were trained with"),
    ("lensmesh_shapes/golden.py", r'"pictures"', "a key of golden.json"),
)


def ours() -> Iterator[Path]:
    """Every file of code and prose that people write, but this one; relative to the root."""
    for top in ROOT.iterdir():
        if top.name in NOT_OURS:
            continue
        for path in [top] if top.is_file() else top.rglob("*"):
            if "node_modules" in path.parts:
                continue
            if (path.suffix in SUFFIXES or path.name in {"Makefile", "Dockerfile"}) and path != Path(__file__):
                yield path.relative_to(ROOT)


def left(path: Path, line: str) -> str:
    """A line without what is excepted in this file."""
    for below, text, _ in EXCEPTIONS:
        if path.is_relative_to(below):
            line = re.sub(text, "", line)
    return line


def test_an_image_is_called_an_image() -> None:
    paths = list(ours())
    assert {Path("README.md"), Path("router_svc/app.py"), Path("docs/glossary.md")} <= set(paths)
    wrong = [str(path) for path in paths if WORD.search(path.as_posix())]
    wrong += [
        f"{path}:{number}: {line.strip()}"
        for path in paths
        for number, line in enumerate((ROOT / path).read_text(encoding="utf-8").splitlines(), 1)
        if WORD.search(line) and WORD.search(left(path, line))
    ]
    assert not wrong


def test_every_exception_is_needed() -> None:
    lines = [(path, (ROOT / path).read_text(encoding="utf-8")) for path in ours()]
    unused = [
        (below, text)
        for below, text, _ in EXCEPTIONS
        if not any(path.is_relative_to(below) and re.search(text, content) for path, content in lines)
    ]
    assert not unused
