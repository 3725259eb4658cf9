"""Runs the examples of a page: python run_page.py PAGE TARGET

In one event loop and one namespace, in a folder of its own with two images, against the router at TARGET instead of
the one that the page names. Where a `print` has a comment behind it, that is what it must print. Needs the client
alone.
"""

import ast
import asyncio
import inspect
import os
import re
import struct
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

NAMED_TARGET = "127.0.0.1:50050"


def png(shade: int) -> bytes:
    """A grey image of 8 by 8 pixels, no two rows alike."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0))
    rows = b"".join(b"\0" + bytes([(shade + row * 8 + column) % 256 for column in range(8)]) for row in range(8))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


async def run(page: str, source: str, target: str) -> None:
    """Runs every example, top to bottom. Raises what one of them raises, or AssertionError for another output."""
    checked = 0
    namespace: dict[str, Any] = {}
    for match in re.finditer(r"^```python\n(.*?)^```", source, re.MULTILINE | re.DOTALL):
        first = source[: match.start(1)].count("\n")
        # As many empty lines before it as the page has, so that a traceback names the page's line.
        code = "\n" * first + match[1].replace(NAMED_TARGET, target)
        lines = code.splitlines()

        def check(*values: object, lines: list[str] = lines) -> None:
            nonlocal checked
            frame = inspect.currentframe()
            assert frame is not None
            assert frame.f_back is not None
            number = frame.f_back.f_lineno
            text = " ".join(map(str, values))
            _, _, wanted = lines[number - 1].partition("  # ")
            if wanted:
                checked += 1
                assert text == wanted, f"line {number} prints {text}, not {wanted}"

        namespace["print"] = check
        compiled = compile(code, page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        result = eval(compiled, namespace)
        if inspect.isawaitable(result):
            await result
    print(f"{checked} outputs as the page tells them")  # noqa: T201  # the test reads it


if __name__ == "__main__":
    page, target = Path(sys.argv[1]).resolve(), sys.argv[2]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("cat.png").write_bytes(png(0))
        Path("dog.png").write_bytes(png(100))
        asyncio.run(run(str(page), page.read_text(), target))
