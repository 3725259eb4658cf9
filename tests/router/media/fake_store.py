"""A media store in memory, with faults as attributes, and a small server that speaks S3."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from router_svc.media.store import MediaError, OversizedMediaError
from tests.support.waiting import until


class FakeMediaStore:
    """Bytes by name."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.media_types: dict[str, str] = {}
        self.writes: list[str] = []
        """Names of all writes, those that failed too."""
        self.asked: list[str] = []
        """Names of which was asked whether they are there."""
        self.read_only = ""
        """Words that a write fails with; "" while it does not."""
        self.away = ""
        """The same of every call."""
        self.refuses: set[str] = set()
        """Names that are never written."""
        self.goes_on = asyncio.Event()
        """No call ends before it is set."""
        self.goes_on.set()
        self.hanging = 0
        """Calls that have not ended."""

    async def put(self, key: str, content: bytes, media_type: str) -> None:
        self.writes.append(key)
        await self._pass(self.read_only)
        if key in self.refuses:
            raise MediaError("not this one")
        self.files[key], self.media_types[key] = content, media_type

    async def get(self, key: str, max_bytes: int) -> bytes | None:
        await self._pass()
        content = self.files.get(key)
        if content is not None and len(content) > max_bytes:
            raise OversizedMediaError
        return content

    async def has(self, key: str) -> bool:
        self.asked.append(key)
        await self._pass()
        return key in self.files

    async def _pass(self, trouble: str = "") -> None:
        self.hanging += 1
        try:
            await self.goes_on.wait()
        finally:
            self.hanging -= 1
        if trouble or self.away:
            raise MediaError(trouble or self.away)


class Bucket:
    """What a server of S3 holds, and how it behaves."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.media_types: dict[str, str] = {}
        self.status = 0
        """Status of every answer; 0: by what is there."""
        self.endpoint = ""

    async def answer(self, request: Request) -> Response:
        """Answer PUT, HEAD and GET of one object."""
        name = request.path_params["key"]
        body = await request.body()
        if self.status:
            return Response("<Error><Code>Fault</Code></Error>", self.status, media_type="application/xml")
        if request.method == "PUT":
            self.files[name], self.media_types[name] = body, request.headers.get("content-type", "")
            return Response(headers={"ETag": '"1"'})
        if name not in self.files:
            return Response("<Error><Code>NoSuchKey</Code></Error>", 404, media_type="application/xml")
        headers = {"ETag": '"1"', "Last-Modified": "Tue, 01 Dec 2026 00:00:00 GMT"}
        return Response(self.files[name], headers=headers, media_type=self.media_types[name])


@asynccontextmanager
async def serving_bucket() -> AsyncIterator[Bucket]:
    """A bucket "images" on a free port, whoever asks."""
    bucket = Bucket()
    app = Starlette(routes=[Route("/images/{key:path}", bucket.answer, methods=["PUT", "HEAD", "GET"])])
    server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="off", log_config=None))
    task = asyncio.create_task(server.serve())
    try:
        await until(lambda: server.started or task.done())
        port = server.servers[0].sockets[0].getsockname()[1]
        bucket.endpoint = f"http://127.0.0.1:{port}"
        yield bucket
    finally:
        server.should_exit = True
        await task
