"""How the server is reached: standard input and output, or HTTP on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import uvicorn
from mcp.server.transport_security import TransportSecuritySettings

from lensmesh_cli.console import Exit, fail, note
from lensmesh_cli.disk import Disk, explain
from lensmesh_cli.folders import LocalImages
from lensmesh_cli.mcp.access import MeshAccess
from lensmesh_cli.mcp.places import AllowedFolders
from lensmesh_cli.mcp.server import ToolServer, build_server
from lensmesh_cli.mcp.thumbnails import FirstThumbnails, KeptThumbnails, LocalThumbnails
from lensmesh_cli.options import MAX_MESSAGE_BYTES, Connect
from lensmesh_cli.printable import printable
from lensmesh_cli.signals import first_signal
from lensmesh_client import Client

PATH = "/mcp"
MOST_CONNECTIONS = 64
GRACE_S = 3


def serve(connect: Connect, folders: Sequence[Path], listen: str) -> None:
    """Serve until the client closes standard input, or over HTTP until a signal."""
    listener = _listener(listen) if listen else None

    async def work(client: Client) -> None:
        async with opened_access(connect, client, folders) as access:
            server = build_server(access)
            if listener is None:
                await _over_stdio(server)
            else:
                await _over_http(server, listener)

    connect.run(work)


@contextlib.asynccontextmanager
async def opened_access(connect: Connect, client: Client, folders: Sequence[Path]) -> AsyncIterator[MeshAccess]:
    """Give what the tools may reach: a mesh, and files below these folders."""
    connection = connect.connection(silent=True)
    with Disk() as disk:
        allowed = AllowedFolders(folders, disk)
        local = LocalThumbnails(LocalImages(allowed.folders, disk))
        try:
            yield MeshAccess(client, connection, allowed, FirstThumbnails(KeptThumbnails(client), local))
        finally:
            await connection.close()


async def _over_stdio(server: ToolServer) -> None:
    if sys.stdin.isatty():
        note("waiting for an MCP client on standard input: docs/mcp.md says how a client starts this command")
    # A thread waits for the next line of standard input. It cannot be cancelled, and would keep the process alive.
    with first_signal(lambda: os._exit(Exit.INTERRUPTED)):
        await server.run_stdio_async()


async def _over_http(server: ToolServer, listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    names = [f"{name}:{port}" for name in dict.fromkeys(("127.0.0.1", "localhost", "[::1]", shown))]
    app = server.streamable_http_app(
        streamable_http_path=PATH,
        max_request_body_size=MAX_MESSAGE_BYTES,
        # A page that a browser of this machine shows can make it ask any address, under a name that leads here.
        transport_security=TransportSecuritySettings(
            enable_dns_rebinding_protection=True,
            allowed_hosts=names,
            allowed_origins=[f"http://{name}" for name in names],
        ),
    )
    config = uvicorn.Config(
        app, log_level="warning", limit_concurrency=MOST_CONNECTIONS, timeout_graceful_shutdown=GRACE_S
    )
    note(f"MCP at http://{shown}:{port}{PATH}")
    with contextlib.suppress(asyncio.CancelledError):
        await uvicorn.Server(config).serve(sockets=[listener])


def _listener(listen: str) -> socket.socket:
    """Bind a loopback address. End the command where it is none, or taken."""
    host, separator, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not separator or not host or not port.isdecimal() or int(port) > 65_535:
        fail(f"--listen {printable(listen)}: write host:port, such as 127.0.0.1:8765", Exit.USAGE)
    host = "127.0.0.1" if host == "localhost" else host
    if not _is_loopback(host):
        fail(
            f"--listen {printable(listen)}: this server asks nobody who they are, so it listens on this machine alone: "
            "use 127.0.0.1, [::1] or localhost, and before others put a proxy that knows its callers",
            Exit.USAGE,
        )
    try:
        return socket.create_server((host, int(port)), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        fail(f"--listen: {explain(error, printable(listen))}", Exit.FAILED)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
