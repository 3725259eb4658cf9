"""A name server for one name, whose addresses a test changes: what a headless Kubernetes Service looks like."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

_HEADER = struct.Struct("!6H")
_ANSWERED, _A = 0x8180, 1


class NameServer(asyncio.DatagramProtocol):
    """Answers every question for an A record with `addresses`, and every other with nothing. Nobody may keep it."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self.addresses = list(addresses)
        self.asked = 0
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        number, _, _, _, _, _ = _HEADER.unpack_from(data)
        end = data.index(b"\0", _HEADER.size) + 5
        (kind,) = struct.unpack_from("!H", data, end - 4)
        answers = [socket.inet_aton(one) for one in self.addresses] if kind == _A else []
        self.asked += bool(answers)
        # Each answer: the name of the question, by its place; A, IN, no time to live.
        records = [b"\xc0\x0c" + struct.pack("!HHIH", _A, 1, 0, len(one)) + one for one in answers]
        reply = _HEADER.pack(number, _ANSWERED, 1, len(records), 0, 0) + data[_HEADER.size : end] + b"".join(records)
        self._transport.sendto(reply, addr)


@asynccontextmanager
async def name_server(*addresses: str) -> AsyncIterator[tuple[NameServer, str]]:
    """The server, and where it answers as "host:port"."""
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(lambda: NameServer(addresses), ("127.0.0.1", 0))
    host, port = transport.get_extra_info("sockname")
    try:
        yield server, f"{host}:{port}"
    finally:
        transport.close()
