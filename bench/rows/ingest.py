"""Images into a collection by IngestStream, with models that cost nothing: the processor time of every process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from bench.figures import Target
from bench.measure import Results, Spread
from bench.rounds import Part, in_rounds, times
from bench.rows.group import Group, Row, Say
from bench.rows.sides import Side, sides
from bench.rows.store import open_store
from bench.stage import NO_CACHE, Stage
from bench.worker import Worker
from lensmesh_inference.devices import cpu_count

PROCESSES = ("captioner", "encoder", "postgres", "router", "search", "caller")
# Where decoding and resizing takes so long, an image may cost so much in all, and so much of it in the Router.
DECODE_MS, ALL_MS, ROUTER_MS = 2.2, 7.0, 0.6
# Each of the two models decodes it for itself.
DECODES = 2


async def measure(stage: Stage, results: Results, say: Say) -> None:
    """Measure a mesh of mock models, into a new collection, and into one whose index is left for later."""
    options = stage.options
    decode = await stage.worker("decode", "bench.bare.decode", str(stage.images))
    press = await stage.worker("press", "bench.workers.press", str(stage.images))

    async def bare() -> Mapping[str, float]:
        found = await decode.ask("images", threads=cpu_count(), seconds=options.seconds, warm=options.warm)
        return {"ingest/decode_cpu_ms": found["cpu_ms"], "ingest/decodes_cpu_ms": DECODES * found["cpu_ms"]}

    parts: dict[str, Part] = {"decode": bare}
    for side in sides(stage):
        parts |= await _mesh(stage, side, press)
    await in_rounds(parts, results, rounds=options.rounds, say=say)


async def _mesh(stage: Stage, side: Side, press: Worker) -> dict[str, Part]:
    settings = {"MODEL": "mock", **NO_CACHE}
    store, encoder, captioner = await asyncio.gather(
        open_store(stage, side),
        stage.service("encoder", f"{side.prefix}mock", settings, side.environment),
        stage.service("caption", f"{side.prefix}captioner", settings, side.environment),
    )
    targets = {
        "ENCODER_TARGETS": encoder.address,
        "CAPTION_TARGETS": captioner.address,
        "SEARCH_TARGETS": store.search.address,
    }
    router = await stage.service("router", f"{side.prefix}ingest-router", targets, side.environment)
    pids = {
        "captioner": captioner.pid,
        "encoder": encoder.pid,
        "postgres": store.database.pid,
        "router": router.pid,
        "search": store.search.pid,
    }

    def into(name: str, *, deferred: bool) -> Part:
        async def part() -> Mapping[str, float]:
            found = await press.ask(
                "ingest",
                address=router.address,
                pids=pids,
                collection=name,
                deferred=deferred,
                seconds=stage.options.seconds,
                warm=stage.options.warm,
            )
            found["all_cpu_ms"] = sum(found[f"{process}_cpu_ms"] for process in PROCESSES)
            return {f"ingest/{side.prefix}{name}_{figure}": value for figure, value in found.items()}

        return part

    parts = {f"{side.prefix}indexed": into("indexed", deferred=False)}
    if not side.prefix:
        parts["bulk"] = into("bulk", deferred=True)
    return parts


def _as_if_decoding_took(milliseconds: float, key: str) -> Callable[[Results], Spread | None]:
    """Return a function that scales a figure by the time that decoding took in its round."""

    def measure(results: Results) -> Spread | None:
        found = times(key, "ingest/decode_cpu_ms")(results)
        return None if found is None else Spread(*(milliseconds * one for one in (found.min, found.median, found.max)))

    return measure


_AS_IF = f"where decode + resize is {DECODE_MS} ms"
GROUP = Group(
    measure,
    (
        Row(
            "IngestStream, mock models, 640x480, index deferred: CPU of all processes",
            "ingest/bulk_all_cpu_ms",
            "ingest/decodes_cpu_ms",
            "decode + resize, once for each model",
        ),
        *(Row(f"of it {process}", f"ingest/bulk_{process}_cpu_ms") for process in PROCESSES),
        Row("IngestStream likewise", "ingest/bulk_rate", unit="/s"),
        Row(
            "IngestStream, mock models, 640x480, into an HNSW collection: CPU of all processes",
            "ingest/indexed_all_cpu_ms",
            "ingest/decodes_cpu_ms",
            "decode + resize, once for each model",
        ),
        Row("of it postgres, which indexes", "ingest/indexed_postgres_cpu_ms"),
    ),
    (
        Target(
            f"IngestStream, mock, index deferred, CPU of all processes an image, {_AS_IF}",
            ALL_MS,
            _as_if_decoding_took(DECODE_MS, "ingest/bulk_all_cpu_ms"),
            at="most",
            unit=" ms",
        ),
        Target(
            f"IngestStream, CPU of the Router an image, {_AS_IF}",
            ROUTER_MS,
            _as_if_decoding_took(DECODE_MS, "ingest/bulk_router_cpu_ms"),
            at="most",
            unit=" ms",
        ),
    ),
)
