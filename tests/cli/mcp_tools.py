"""A model's client of `lensmesh mcp`, within the test's own process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mcp import Client
from mcp.types import CallToolResult, TextContent

from lensmesh_cli.mcp.server import build_server
from lensmesh_cli.mcp.serving import opened_access
from lensmesh_cli.mcp.thumbnails import ThumbnailSource
from lensmesh_cli.options import Connect


@asynccontextmanager
async def tools(
    target: str, *folders: Path, thumbnails: ThumbnailSource | None = None, timeout_s: float = 60.0
) -> AsyncIterator[Client]:
    """The SDK's client, connected to a server of the mesh at `target`. Messages go through JSON, as by stdio."""
    connect = Connect(target, timeout_s=timeout_s, say=lambda _: None)
    async with connect.client() as client, opened_access(connect, client, folders) as mesh:
        mesh.thumbnails = thumbnails or mesh.thumbnails
        async with Client(build_server(mesh), mode="legacy") as asker:
            yield asker


def text(result: CallToolResult) -> str:
    """The text of an answer."""
    first = result.content[0]
    assert isinstance(first, TextContent)
    return first.text


def told(result: CallToolResult) -> dict[str, Any]:
    """The structured part of an answer that is no error."""
    assert not result.is_error, text(result)
    content = result.structured_content
    assert isinstance(content, dict)
    return content
