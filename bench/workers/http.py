"""A client of HTTP that costs as little as one can: one connection that stays, requests one after another."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack


class HttpConnection:
    """A connection that stays open. Answers have to tell their length."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, address: str, stack: AsyncExitStack) -> HttpConnection:
        """Connect to "host:port"; closed with `stack`."""
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        stack.callback(writer.close)
        return cls(reader, writer)

    async def ask(self, method: str, path: str, body: bytes = b"", content_type: str = "application/json") -> bytes:
        """Send a request, and return the body of its answer. Raises ValueError for any status but 200."""
        head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\n"
        if body:
            head += f"content-type: {content_type}\r\ncontent-length: {len(body)}\r\n"
        self._writer.write(head.encode() + b"\r\n" + body)
        lines = (await self._reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
        size = next(int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:"))
        answer = await self._reader.readexactly(size)
        if lines[0].split()[1] != b"200":
            raise ValueError(f"{path} answered {lines[0].decode()}: {answer[:200]!r}")
        return answer


def form(boundary: str, **parts: bytes | str) -> bytes:
    """Return a multipart body: texts as fields, bytes as files."""
    made = []
    for name, value in parts.items():
        file = f'; filename="{name}.jpg"' if isinstance(value, bytes) else ""
        content = value if isinstance(value, bytes) else value.encode()
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
        made.append(head.encode() + content + b"\r\n")
    return b"".join((*made, f"--{boundary}--\r\n".encode()))
