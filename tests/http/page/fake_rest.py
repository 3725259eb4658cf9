"""A door with faults: the shapes that the page reads, without a mesh, and the page as `http_svc.page` serves it."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import threading
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette_compress import CompressMiddleware

from http_svc.page import page_routes
from lensmesh_shapes import caption, draw, held_out_scenes

ARTISTS = ("Mira Sol", "Jo Anders", "K. Ito")
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"


class FakeRest:
    """Images in memory, and what goes wrong with them."""

    def __init__(self) -> None:
        self.address = ""
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._drawn: dict[str, bytes] = {}
        self.scenes = {
            hashlib.sha256(str(at).encode()).hexdigest(): scene for at, scene in enumerate(held_out_scenes(48))
        }
        self.reset()

    def reset(self) -> None:
        """Set everything to how it is at the start."""
        self.images = [
            self._image(at, digest, caption(scene.facts)) for at, (digest, scene) in enumerate(self.scenes.items())
        ]
        self.requests: list[tuple[str, str, Any]] = []
        """Method, path with its query, and what came: JSON, or the names of files."""
        self.unavailable = ""
        """The message of a 503 that all of /v1 answers with, where it is set."""
        self.refuse_search: dict[str, Any] | None = None
        self.search_answer: dict[str, Any] | None = None
        self.search_held: asyncio.Event | None = None
        self.ingest_errors: dict[str, str] = {}
        """Messages that files fail with, by their names."""
        self.ingest_held = False
        self.ingest_cut = False
        """The answer breaks off after its first line."""
        self.trace_url: str | None = None
        self.services = [
            self._service("encoder", "clip-shapes", "cpu"),
            self._service("captioner", "blip-shapes", "cpu"),
            self._service("search", None, None),
        ]
        self.jobs: dict[str, dict[str, Any]] = {}

    def start(self) -> None:
        """Serve, on the port of before where there was one."""
        port = int(self.address.rpartition(":")[2]) if self.address else 0
        app = Starlette(routes=[*page_routes(), *self._routes()])
        guarded = self._guard(CompressMiddleware(app, minimum_size=1024, zstd=False, brotli_quality=4))
        config = uvicorn.Config(
            guarded, "127.0.0.1", port, log_level="error", lifespan="off", timeout_graceful_shutdown=1
        )
        self._server = server = uvicorn.Server(config)
        self._thread = threading.Thread(target=server.run, daemon=True)
        self._thread.start()
        while not server.started:
            assert self._thread.is_alive(), "the server ended at its start"
            self._thread.join(0.01)
        self.address = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"

    def stop(self) -> None:
        """Close the port and all connections."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(10)

    def asked(self, method: str, path: str) -> list[Any]:
        """Return what came with requests to an address."""
        return [body for one, target, body in self.requests if one == method and target.partition("?")[0] == path]

    # --- what is stored

    def _image(self, at: int, digest: str, text: str) -> dict[str, Any]:
        return {
            "id": f"scene/{at:03}",
            "collection": "shapes",
            "caption": text,
            "caption_model": "blip-shapes",
            "image_uri": f"file:///scenes/{at:03}.png",
            "metadata": {"artist": ARTISTS[at % 3], "year": 2021 + at % 4, "print": at % 5 == 0},
            "content_digest": digest,
            "created_at": "2026-05-04T10:00:00Z",
            "updated_at": "2026-05-04T10:00:00Z",
            "thumbnail": f"/v1/thumbnails/{digest}.webp",
            "original": None,
        }

    def many(self, count: int) -> list[dict[str, Any]]:
        """Return so many images that share the drawn ones' thumbnails."""
        digests = list(self.scenes)
        return [
            self._image(at, digests[at % len(digests)], f"image {at}") | {"id": f"many-{at}"} for at in range(count)
        ]

    @staticmethod
    def _service(kind: str, model: str | None, device: str | None) -> dict[str, Any]:
        models = (
            [{"name": model, "backend": "torch", "precision": "fp32", "devices": [{"id": device, "name": ""}]}]
            if model
            else []
        )
        return {"kind": kind, "address": "127.0.0.1:50051", "health": "serving", "reason": "", "models": models}

    # --- addresses

    def _routes(self) -> list[Route]:
        return [
            Route("/v1/status", self._status),
            Route("/v1/search", self._search, methods=["POST"]),
            Route("/v1/images", self._list),
            Route("/v1/images/{id:path}", self._one),
            Route("/v1/thumbnails/{name}", self._thumbnail),
            Route("/v1/ingest", self._ingest, methods=["POST"]),
            Route("/v1/collections", self._collections),
            Route("/v1/facets", self._facets),
            Route("/v1/jobs", self._list_jobs, methods=["GET"]),
            Route("/v1/jobs", self._start_job, methods=["POST"]),
            Route("/v1/jobs/{id}", self._cancel_job, methods=["DELETE"]),
            Route("/v1/jobs/{id}/events", self._job_events),
        ]

    def _guard(self, app: ASGIApp) -> ASGIApp:
        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http" and scope["path"].startswith("/v1/") and self.unavailable:
                await _error(503, "UNAVAILABLE", self.unavailable)(scope, receive, send)
                return
            await app(scope, receive, send)

        return guarded

    def _note(self, request: Request, body: Any = None) -> None:
        target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        self.requests.append((request.method, target, body))

    async def _status(self, _request: Request) -> Response:
        limits = {"max_hits": 10_000, "max_offset": 10_000, "max_page_size": 10_000}
        told = {"services": self.services, "default_collection": "shapes", "limits": limits}
        return JSONResponse(told | {"media": {"thumbnails": True, "originals": False}, "trace_url": self.trace_url})

    async def _search(self, request: Request) -> Response:
        upload = None
        if "multipart" in request.headers["content-type"]:
            async with request.form() as form:
                body = json.loads(str(form["request"]))
                upload = form["image"]
                queries = [*body["queries"], {"name": "", "image": len(await upload.read())}]  # type: ignore[union-attr]
        else:
            body = await request.json()
            queries = body["queries"]
        self._note(request, body | {"queries": queries})
        if self.search_held is not None:
            await self.search_held.wait()
        if self.refuse_search is not None:
            return JSONResponse({"error": self.refuse_search}, 400)
        if self.search_answer is not None:
            return JSONResponse(self.search_answer, headers={"lensmesh-trace-id": TRACE_ID})
        found = [image for image in self.images if _passes(image, body.get("filter")) and _matches(image, queries)]
        hits = [_hit(image, rank, len(found), queries) for rank, image in enumerate(found)]
        hits = [hit for hit in hits if hit["relevance"] >= body.get("min_relevance", 0)]
        hits = hits[body.get("offset", 0) :][: body["limit"]]
        groups: list[dict[str, Any]] | None = None
        if grouping := body.get("group_by"):
            groups = []
            for hit in hits:
                values = {field: hit["image"]["metadata"].get(field) for field in grouping["fields"]}
                group = next((each for each in groups if each["values"] == values), None)
                if group is None:
                    groups.append(group := {"values": values, "hits": []})
                group["hits"].append(hit)
        answer = {
            "hits": hits,
            "groups": groups,
            "exact": True,
            "encode_ms": 3.0,
            "store_ms": 2.0,
            "failed_queries": [],
        }
        return JSONResponse(answer, headers={"lensmesh-trace-id": TRACE_ID})

    async def _list(self, request: Request) -> Response:
        self._note(request)
        params = request.query_params
        kept = [image for image in self.images if _passes(image, json.loads(params.get("filter", "null")))]
        start, size = int(params.get("page_token") or 0), int(params["page_size"])
        after = str(start + size) if start + size < len(kept) else ""
        return JSONResponse({"images": kept[start : start + size], "next_page_token": after, "total": len(kept)})

    async def _one(self, request: Request) -> Response:
        self._note(request)
        found = next((image for image in self.images if image["id"] == request.path_params["id"]), None)
        return JSONResponse(found) if found else _error(404, "ITEM_NOT_FOUND", "no image has this id")

    async def _thumbnail(self, request: Request) -> Response:
        digest = request.path_params["name"].removesuffix(".webp")
        if digest not in self.scenes:
            return _error(404, "MEDIA_NOT_FOUND", "no such thumbnail")
        if digest not in self._drawn:
            kept = io.BytesIO()
            draw(self.scenes[digest], 320).save(kept, "WEBP")
            self._drawn[digest] = kept.getvalue()
        return Response(self._drawn[digest], media_type="image/webp", headers={"cache-control": "max-age=3600"})

    async def _collections(self, _request: Request) -> Response:
        fields = [{"field": name, "type": "keyword"} for name in ("artist", "year", "print")]
        shapes = {"name": "shapes", "item_count": len(self.images), "fields": fields}
        return JSONResponse({"collections": [shapes, {"name": "other", "item_count": 0, "fields": []}]})

    async def _facets(self, request: Request) -> Response:
        self._note(request)
        kept = [
            image for image in self.images if _passes(image, json.loads(request.query_params.get("filter", "null")))
        ]
        facets: list[dict[str, Any]] = []
        for field in request.query_params["fields"].split(","):
            values = [image["metadata"].get(field) for image in kept]
            counts = [
                {"value": each, "count": values.count(each)} for each in dict.fromkeys(values) if each is not None
            ]
            facets.append({"field": field, "values": sorted(counts, key=lambda one: -one["count"])})
        return JSONResponse({"facets": facets, "total": len(kept)})

    async def _ingest(self, request: Request) -> Response:
        async with request.form(max_files=100) as form:
            files = [(file.filename, await file.read()) for file in form.getlist("file")]  # type: ignore[union-attr]
        self._note(request, [name for name, _ in files])

        async def answers() -> AsyncIterator[bytes]:
            created = failed = 0
            for index, (name, data) in enumerate(files):
                while self.ingest_held:  # noqa: ASYNC110  # set by a test, in another thread
                    await asyncio.sleep(0.01)
                if self.ingest_cut and index:
                    return
                line: dict[str, Any] = {"ref": str(index), "index": index, "name": name}
                if message := self.ingest_errors.get(str(name)):
                    failed += 1
                    line["error"] = {"code": "INVALID_ARGUMENT", "reason": "IMAGE_UNDECODABLE", "message": message}
                else:
                    created += 1
                    image = self._image(len(self.images), hashlib.sha256(data).hexdigest(), f"what {name} shows")
                    self.images.append(image)
                    line |= {"image": image, "outcome": "created"}
                yield json.dumps(line).encode() + b"\n"
            yield json.dumps({"done": {"items": len(files), "created": created, "failed": failed}}).encode() + b"\n"

        return StreamingResponse(answers(), media_type="application/x-ndjson")

    # --- jobs

    def add_job(self, name: str, **values: Any) -> None:
        """Have a job that runs."""
        job = {"id": name, "kind": "find_duplicates", "collection": "shapes", "state": "running"}
        self.jobs[name] = job | {"done_count": 0, "total_count": 100, "created_at": "2026-05-04T10:00:00Z"} | values

    async def _list_jobs(self, request: Request) -> Response:
        self._note(request)
        return JSONResponse({"jobs": list(self.jobs.values())})

    async def _start_job(self, request: Request) -> Response:
        body = await request.json()
        self._note(request, body)
        self.add_job("started", kind=body["kind"])
        return JSONResponse(self.jobs["started"], 201)

    async def _cancel_job(self, request: Request) -> Response:
        self._note(request)
        job = self.jobs[request.path_params["id"]]
        job["state"] = "cancelled"
        return JSONResponse(job)

    async def _job_events(self, request: Request) -> Response:
        self._note(request)
        name = request.path_params["id"]

        async def events() -> AsyncIterator[bytes]:
            told = ""
            while self.jobs[name]["state"] == "running" or not told:
                now = json.dumps(self.jobs[name])
                if now != told:
                    yield f"data: {now}\n\n".encode()
                    told = now
                await asyncio.sleep(0.02)
            yield f"event: end\ndata: {json.dumps(self.jobs[name])}\n\n".encode()

        return StreamingResponse(events(), media_type="text/event-stream")


def _error(status: int, reason: str, message: str) -> Response:
    return JSONResponse({"error": {"code": "", "reason": reason, "message": message}}, status)


def _passes(image: dict[str, Any], chosen: dict[str, Any] | None) -> bool:
    tests = [each["condition"] for each in (chosen or {"all": {"filters": []}})["all"]["filters"]]
    return all(image["metadata"].get(test["field"]) in test["one_of"] for test in tests)


def _matches(image: dict[str, Any], queries: list[dict[str, Any]]) -> bool:
    words = set(image["caption"].lower().split())
    for query in queries:
        asked = set((query.get("text") or query.get("words") or "").lower().split())
        if query.get("weight", 1) < 0 and asked & words:
            return False
        if query.get("weight", 1) > 0 and asked and not asked & words:
            return False
    return True


def _hit(image: dict[str, Any], rank: int, count: int, queries: list[dict[str, Any]]) -> dict[str, Any]:
    share = 1 - rank / (count + 3)
    legs = [
        {"name": query["name"], "score": 0.31 * share * (-0.4 if query.get("weight", 1) < 0 else 1), "rank": rank + 1}
        for query in queries
    ]
    return {"image": image, "score": 0.32 * share, "relevance": round(0.96 * share, 4), "rank": rank + 1, "legs": legs}
