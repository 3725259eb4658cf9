"""Requests written byte by byte."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.http.conftest import Door


@asynccontextmanager
async def connected(door: Door) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Open a plain connection to the door."""
    reader, writer = await asyncio.open_connection(*door.host_and_port)
    try:
        yield reader, writer
    finally:
        writer.close()


def head(path: str, *lines: str, method: str = "POST") -> bytes:
    """Return the head of a request."""
    return "\r\n".join((f"{method} {path} HTTP/1.1", "host: localhost", *lines, "", "")).encode()


async def answer_of(reader: asyncio.StreamReader) -> tuple[int, dict[str, Any]]:
    """Read one answer: its status and its JSON."""
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().splitlines()
    sizes = [int(line.partition(":")[2]) for line in lines if line.startswith("content-length:")]
    body = await reader.readexactly(sizes[0]) if sizes else b"{}"
    return int(lines[0].split()[1]), json.loads(body)
