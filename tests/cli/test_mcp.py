"""`lensmesh mcp` as a model's client meets it: by standard input and output, and over HTTP."""

import asyncio
import base64
import io
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp.types import ImageContent
from PIL import Image

from lensmesh_cli.mcp.thumbnails import KeptThumbnails
from lensmesh_client import Caption, Hit, Item, PreconditionFailed, Reason, SyncClient
from lensmesh_client import Client as Asked
from tests.cli.in_process import lensmesh_here
from tests.cli.mcp_tools import text, told, tools
from tests.client.fake_router import FakeRouter, serving
from tests.support.meshes import Mesh, draw_images, environment

READING = ["search", "search_by_image", "similar", "describe", "facets", "status"]


async def test_a_model_ingests_a_folder_and_searches_it(mesh: Mesh, tmp_path: Path) -> None:
    """In a process of its own, started as clients start it."""
    paths = draw_images(tmp_path / "in" / "deep", 5, start=20_000)
    (tmp_path / "in" / "bad.jpg").write_text("no image")
    command = ["-m", "lensmesh_cli", "mcp", "--folder", str(tmp_path / "in")]
    env = environment(LENSMESH_TARGET=mesh.target, XDG_STATE_HOME=str(tmp_path / "state"))
    async with Client(StdioServerParameters(command=sys.executable, args=command, env=env)) as client:
        offered = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert [*offered] == [*READING, "ingest_folder"]
        hints = {name: tool.annotations.read_only_hint for name, tool in offered.items() if tool.annotations}
        assert hints == {**dict.fromkeys(READING, True), "ingest_folder": False}

        seen: list[tuple[float, float | None]] = []

        async def report(progress: float, total: float | None, message: str | None) -> None:
            seen.append((progress, total))

        asked = {"path": "", "collection": "tools"}
        first = await client.call_tool("ingest_folder", {**asked, "path": "."}, progress_callback=report)
        stored = told(first)
        assert (stored["stored"], stored["outcomes"], stored["complete"]) == (5, {"created": 5}, False)
        assert [(each["path"], each["reason"]) for each in stored["errors"]] == [("bad.jpg", "IMAGE_UNDECODABLE")]
        assert "bad.jpg" in text(first)
        assert seen[-1] == (6, 6)
        again = told(await client.call_tool("ingest_folder", {**asked, "path": str(tmp_path / "in")}))
        assert (again["stored"], again["skipped"]) == (0, 5)

        found = await client.call_tool("search_by_image", {"path": "deep/" + paths[0].name, "collection": "tools"})
        hits = told(found)["hits"]
        assert len(hits) == 5
        assert (hits[0]["image_uri"], hits[0]["thumbnail"]) == (paths[0].as_uri(), 1)
        assert hits[0]["score"] == pytest.approx(1.0, abs=1e-3)
        assert hits[0]["id"] in text(found)
        assert hits[0]["caption"] in text(found)
        small = [block for block in found.content if isinstance(block, ImageContent)]
        # Of the mesh, or made of the file.
        assert [block.mime_type in {"image/webp", "image/jpeg"} for block in small] == [True] * 5
        with Image.open(io.BytesIO(base64.b64decode(small[0].data))) as shown:
            assert shown.width == 1.5 * shown.height

        about = told(await client.call_tool("describe", {"id": hits[0]["id"], "collection": "tools"}))
        assert (about["caption"], about["content_digest"]) == (hits[0]["caption"], hits[0]["id"])
        image = base64.b64encode(paths[0].read_bytes()).decode()
        assert told(await client.call_tool("describe", {"image_base64": image}))["caption"] == hits[0]["caption"]


async def test_thumbnails_that_the_mesh_keeps() -> None:
    router = FakeRouter()
    async with serving(router) as target, tools(target) as client:
        found = await client.call_tool("search", {"query": "a"})
        assert told(found)["hits"][0]["thumbnail"] == 1
        small = found.content[1]
        assert isinstance(small, ImageContent)
        assert (small.mime_type, base64.b64decode(small.data)) == ("image/webp", b"\x01\x02")
        router.error = PreconditionFailed(Reason.MEDIA_NOT_KEPT, "this router keeps none")
        async with Asked(target) as asked:
            kept = KeptThumbnails(asked)
            for _ in range(3):
                assert await kept.of([Hit("one", 1, content_digest="ab" * 32)] * 30) == [None] * 30
        assert len(router.calls) < 20, "that it keeps none is asked once"


async def test_searches_of_every_kind(mesh: Mesh, tmp_path: Path) -> None:
    words = {"a": "an old stone bridge", "b": "a red kite", "c": "a red bridge"}
    with SyncClient(mesh.target) as writer:
        made = writer.collections.create("kinds", fields={"artist": "keyword", "year": "number"})
        vectors = writer.embed(texts=[*words.values()])
        items = [
            Item(name, {made.spaces[0].name: vectors[place]}, Caption(said), {"artist": "Ada", "year": 1900 + place})
            for place, (name, said) in enumerate(words.items())
        ]
        writer.items.upsert(items, collection="kinds")
    async with tools(mesh.target) as client:

        async def ids(tool: str, **asked: object) -> list[str]:
            found = await client.call_tool(tool, {"collection": "kinds", **asked})
            return [hit["id"] for hit in told(found)["hits"]]

        assert (await ids("search", query="a red kite"))[0] == "b"
        assert (await ids("search", query="a red kite", also=["a red bridge"], without=["a red kite"]))[0] == "c"
        assert {*await ids("search", caption_words="bridge")} == {"a", "c"}
        assert await ids("search", caption_words='"red bridge"') == ["c"]
        assert await ids("search", query="x", filters=["year>=1901", "year<1902"]) == ["b"]
        assert len(await ids("search", query="x", limit=2)) == 2
        assert len(await ids("search", query="x", limit=2, offset=2)) == 1
        assert {*await ids("similar", id="a")} == {"b", "c"}
        nothing = await client.call_tool("search", {"query": "x", "filters": ["year>2000"], "collection": "kinds"})
        assert told(nothing)["hits"] == []
        assert "Nothing found" in text(nothing)

        counted = told(await client.call_tool("facets", {"collection": "kinds"}))["facets"]
        assert counted[0] | {"other_count": 0} == {
            "field": "artist",
            "type": "keyword",
            "values": [{"value": "Ada", "count": 3}],
            "other_count": 0,
        }
        status = told(await client.call_tool("status", {}))
        assert status["serving"] is True
        assert status["default_collection"] == "house"
        [shown] = [each for each in status["collections"] if each["name"] == "kinds"]
        assert (shown["images"], shown["fields"]) == (3, {"artist": "keyword", "year": "number"})


@asynccontextmanager
async def http(mesh: Mesh) -> AsyncIterator[str]:
    """`lensmesh mcp --listen` on a free port; gives its address, and ends it as a supervisor would."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "lensmesh_cli", "mcp", "--listen", "localhost:0"),
        env=environment(LENSMESH_TARGET=mesh.target),
        stderr=PIPE,
    )
    try:
        assert process.stderr is not None
        said = (await process.stderr.readline()).decode()
        assert said.startswith("MCP at http://127.0.0.1:"), said
        yield said.split()[-1]
    finally:
        process.send_signal(signal.SIGTERM)
        _, rest = await process.communicate()
        assert b"Traceback" not in rest, rest.decode()


async def test_over_http_on_this_machine_only(mesh: Mesh) -> None:
    async with http(mesh) as address:
        async with Client(address) as client:
            assert [tool.name for tool in (await client.list_tools()).tools] == READING
            assert told(await client.call_tool("status", {}))["folders"] == []
        ask = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        headers = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
        async with httpx2.AsyncClient() as browser:
            # A page of a name that leads here, a page of another origin, and more bytes than an image has.
            foreign = await browser.post(address, json=ask, headers={**headers, "host": "evil.example"})
            assert foreign.status_code == 421
            crossing = await browser.post(address, json=ask, headers={**headers, "origin": "http://evil.example"})
            assert crossing.status_code == 403
            large = await browser.post(address, content=b" " * (33 << 20), headers=headers)
            assert large.status_code == 413


@pytest.mark.parametrize(
    ("listen", "why"),
    [
        ("0.0.0.0:8765", "this machine alone"),
        ("example.com:80", "this machine alone"),
        ("127.0.0.1", "host:port"),
        (":80", "host:port"),
        ("127.0.0.1:99999", "host:port"),
    ],
)
def test_it_listens_to_nobody_else(listen: str, why: str) -> None:
    done = lensmesh_here("mcp", "--listen", listen)
    assert (done.code, done.out) == (2, "")
    assert why in done.err


def test_without_the_sdk_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mcp.server.mcpserver", None)
    done = lensmesh_here("mcp")
    assert (done.code, done.out) == (1, "")
    assert 'pip install "lensmesh[mcp]"' in done.err
