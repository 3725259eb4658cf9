"""The README's Python does what it shows, on a real mesh."""

import ast
import re
from pathlib import Path
from types import CodeType
from typing import Any

import numpy as np

from tests.mesh import images

README = (Path(__file__).resolve().parents[2] / "README.md").read_text()


def compiled(source: str) -> CodeType:
    """Code that may await at its top level, as in a notebook's cell."""
    code: CodeType = compile(source, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    return code


async def test_the_python_example_runs(mesh: dict[str, str], tmp_path: Path) -> None:
    [source] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    image = tmp_path / "cat.jpg"
    image.write_bytes(images.plain("orange", kind="JPEG"))
    for shown, real in (("127.0.0.1:50050", mesh["router"]), ("cat.jpg", str(image))):
        assert shown in source
        source = source.replace(shown, real)
    names: dict[str, Any] = {}
    await eval(compiled(source), names)
    assert [hit.metadata for hit in names["found"].hits] == [{"album": "home"}]
    assert names["vectors"].shape == (2, 512)
    assert names["vectors"].dtype == np.float32
