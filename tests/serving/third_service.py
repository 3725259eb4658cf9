"""The service of docs/adding-a-model-service.md, built out of the page's code blocks."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

from protos.generate import PROTOS, copy_googleapis

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "adding-a-model-service.md"
_BLOCK = re.compile(r"^### `([^`]+)`\n+```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def build(folder: Path) -> list[Path]:
    """Write every file that the page shows below a folder, and generate the contract's Python beside it."""
    written = []
    for name, content in _BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
        written.append(path)
    protos = [path.relative_to(folder / "protos") for path in written if path.suffix == ".proto"]
    paths = (folder / "protos", PROTOS, copy_googleapis(), files("grpc_tools") / "_proto")
    includes = [f"--proto_path={path}" for path in paths]
    outputs = [f"--python_out={folder}", f"--grpc_python_out={folder}"]
    assert protoc.main(["protoc", *includes, *outputs, *map(str, protos)]) == 0
    return written
