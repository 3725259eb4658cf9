"""The front door, beside the Router that it asks, a bare echo over HTTP, and open_clip behind a few lines of HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from bench.figures import Target
from bench.measure import Results, Spread
from bench.rounds import Part, in_rounds, times
from bench.rows.group import Group, Row, Say
from bench.rows.search import FEW, ITEMS
from bench.rows.sides import Side
from bench.rows.store import COLLECTION, collection, fill, items, open_store, space_of
from bench.services import Service
from bench.stage import NO_CACHE, Stage
from bench.worker import Worker

CALLERS = 64
# With weights that say nothing, and cost what others cost.
MODEL = "ViT-B-32/random"
# What a search by HTTP may take more than one by gRPC, in echoes.
SEARCH_ECHOES, INGEST_SHARE, PREDICT_TIMES, MEMORY_MB = 1.5, 0.7, 3.0, 120.0


async def measure(stage: Stage, results: Results, say: Say) -> None:
    """Measure a search, an ingest into a mesh of mock models, and single images as Immich asks for them."""
    mock = {"MODEL": "mock", **NO_CACHE}
    encoder, captioner, store = await asyncio.gather(
        stage.service("encoder", "mock", mock), stage.service("caption", "captioner", mock), open_store(stage, Side())
    )
    space = await space_of(encoder)
    made = items(space, FEW if stage.options.smoke else ITEMS)
    say(f"door: writing {len(made):,} items")
    await fill(store, collection(space), made)
    targets = {
        "ENCODER_TARGETS": encoder.address,
        "CAPTION_TARGETS": captioner.address,
        "SEARCH_TARGETS": store.search.address,
    }
    router = await stage.service("router", "router", targets)
    door = await _door(stage, "door", router)
    model = "shapes" if stage.options.smoke else MODEL
    real = await stage.service("encoder", "real", {"MODEL": model, **NO_CACHE})
    predicting = await _door(stage, "predicting", await stage.router(real, "real-router"))

    turns = await stage.worker("turns", "bench.workers.turns")
    press = await stage.worker("press", "bench.workers.press", str(stage.images))
    echo = await stage.worker("http-echo", "bench.bare.http_echo")
    plain = await stage.worker("http-openclip", "bench.bare.http_openclip", model)
    about = {"collection": COLLECTION}
    ways = {
        "echo": [{"step": "http_echo", "address": await echo.ask("address")}],
        "routed": [{"step": "routed", "address": router.address, **about}],
        "http": [{"step": "http_search", "address": door.address, **about}],
    }
    pids = {"echo": {"server": echo.pid}, "http": {"door": door.pid}, "routed": {"router": router.pid}}

    async def single() -> Mapping[str, float]:
        found = await turns.ask("turns", ways=ways, pids=pids, seconds=len(ways) * stage.options.seconds)
        told = {f"door/{way}_{figure}": value for way, figures in found.items() for figure, value in figures.items()}
        more = found["http"]["p50_ms"] - found["routed"]["p50_ms"]
        return told | {"door/more_echoes": more / found["echo"]["p50_ms"]}

    servers = {"router": router.pid, "door": door.pid}
    into = {"deferred": True, "pids": servers}
    parts: dict[str, Part] = {
        "single": single,
        "stream": _pressed(stage, press, "ingest", "stream", address=router.address, collection="by_grpc", **into),
        "lines": _pressed(stage, press, "http_ingest", "lines", address=door.address, collection="by_http", **into),
    }
    asked: dict[str, Any] = {"callers": 4 if stage.options.smoke else CALLERS, "model": ""}
    for name, address in (("predict", predicting.address), ("plain", await plain.ask("address"))):
        parts[name] = _pressed(stage, press, "predict", name, address=address, pids={}, **asked)

    async def memory() -> Mapping[str, float]:
        return {"door/memory_mb": door.memory_bytes / 1e6}

    await in_rounds(parts | {"memory": memory}, results, rounds=stage.options.rounds, say=say)


async def _door(stage: Stage, name: str, router: Service) -> Service:
    # Its health is asked by gRPC.
    settings = {"ROUTER_TARGET": router.address, "HEALTH_LISTEN": "127.0.0.1:0", "MODEL_NAMES": "*"}
    return await stage.service("http", name, settings)


def _pressed(stage: Stage, press: Worker, method: str, name: str, **asked: Any) -> Part:
    async def part() -> Mapping[str, float]:
        found = await press.ask(method, seconds=stage.options.seconds, warm=stage.options.warm, **asked)
        return {f"door/{name}_{figure}": value for figure, value in found.items()}

    return part


def _memory(results: Results) -> Spread | None:
    found = results.extra.get("door/memory_mb")
    return Spread.of(found) if found else None


def _more(results: Results) -> Spread | None:
    found = results.extra.get("door/more_echoes")
    return Spread.of(found) if found else None


_LINES, _STREAM, _PREDICT, _PLAIN = (f"door/{name}_rate" for name in ("lines", "stream", "predict", "plain"))
GROUP = Group(
    measure,
    (
        Row(
            f"GET /v1/search, {ITEMS:,} items, mock, p50",
            "door/http_p50_ms",
            "door/routed_p50_ms",
            "Router.Search by gRPC",
        ),
        Row("an echo of Starlette, p50", "door/echo_p50_ms"),
        Row(
            "GET /v1/search: CPU of the door",
            "door/http_door_cpu_ms",
            "door/echo_server_cpu_ms",
            "an echo of Starlette",
        ),
        Row("POST /v1/ingest, lines of JSON, mock, 640x480", _LINES, _STREAM, "IngestStream by gRPC", "/s"),
        Row("of it CPU of the door an image", "door/lines_door_cpu_ms"),
        Row(f"POST /predict, {CALLERS} callers", _PREDICT, _PLAIN, "open_clip behind a few lines of HTTP", "/s"),
    ),
    (
        Target("search by HTTP p50, more than by gRPC, in echoes", SEARCH_ECHOES, _more, at="most"),
        Target("ingest of JSON of IngestStream's rate", INGEST_SHARE, times(_LINES, _STREAM)),
        Target(f"/predict of {CALLERS} callers of a plain loop's rate", PREDICT_TIMES, times(_PREDICT, _PLAIN)),
        Target("memory of the door", MEMORY_MB, _memory, at="most", unit=" MB"),
    ),
)
