"""Load for an HTTP server: an ingest as one long request, and single images by many callers."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

from bench.workers.http import HttpConnection, form

BOUNDARY = "lensmesh-bench"
LINES = 8
Add = Callable[[int, tuple[str, ...]], None]


async def ingest(address: str, path: str, images: Iterator[Any], add: Add, seconds: float, *, in_flight: int) -> None:
    """Send lines of JSON for so long, `in_flight` without an answer at most, and read the answers to their end."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    left, room, refs = in_flight, asyncio.Event(), itertools.count()
    clock = asyncio.get_running_loop().time
    end = clock() + seconds

    async def send() -> None:
        nonlocal left
        head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-ndjson\r\n"
        writer.write(f"{head}transfer-encoding: chunked\r\n\r\n".encode())
        while clock() < end:
            while left < LINES:
                room.clear()
                await room.wait()
            left -= LINES
            chunk = b"".join(_line(next(refs), next(images)) for _ in range(LINES))
            writer.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
            await writer.drain()
        writer.write(b"0\r\n\r\n")

    async def receive() -> None:
        nonlocal left
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in head.split(b"\r\n")[0]:
            raise ValueError(f"{path} answered {head[:60]!r}")
        kept = b""
        while size := int(await reader.readline(), 16):
            kept += (await reader.readexactly(size + 2))[:-2]
            *lines, kept = kept.split(b"\n")
            for line in filter(None, lines):
                told = json.loads(line)
                if "done" not in told:
                    add(1, (told["error"]["message"],) if "error" in told else ())
                    left += 1
            room.set()

    try:
        async with asyncio.TaskGroup() as running:
            running.create_task(send())
            running.create_task(receive())
    finally:
        writer.close()


def _line(ref: int, content: bytes) -> bytes:
    return json.dumps({"ref": str(ref), "base64": base64.b64encode(content).decode()}).encode() + b"\n"


async def predict(address: str, model: str, images: Iterator[Any], add: Add, seconds: float, *, callers: int) -> None:
    """Ask for one image after another by each of `callers` connections, for so long."""
    entries = json.dumps({"clip": {"visual": {"modelName": model}}})
    clock = asyncio.get_running_loop().time
    end = clock() + seconds

    async with AsyncExitStack() as stack:
        connections = [await HttpConnection.open(address, stack) for _ in range(callers)]

        async def caller(connection: HttpConnection) -> None:
            while clock() < end:
                body = form(BOUNDARY, entries=entries, image=next(images))
                answer = await connection.ask("POST", "/predict", body, f"multipart/form-data; boundary={BOUNDARY}")
                add(1, () if b'"clip"' in answer else (answer[:200].decode(),))

        async with asyncio.TaskGroup() as running:
            for connection in connections:
                running.create_task(caller(connection))
