"""Images by a tower that costs nothing, beside bare decoding and resizing, and beside other servers of that tower."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

from bench.cases.peers import TITLES
from bench.figures import Target
from bench.measure import Results, read_figures
from bench.peers.environment import LITSERVE, TRITON, Peer, PeerMissingError, prepare
from bench.rounds import Part, in_rounds, times
from bench.rows.group import Group, Row, Say
from bench.rows.sides import sides
from bench.stage import Stage
from bench.worker import Worker, WorkerError
from bench.workers.press import MESSAGE
from lensmesh_inference.devices import cpu_count

CALLERS = 64


async def measure(stage: Stage, results: Results, say: Say) -> None:
    """Measure the tower by stream and by single calls."""
    decode, tower, caller = await asyncio.gather(
        stage.worker("decode", "bench.bare.decode", str(stage.images)),
        stage.tower(),
        stage.worker("press", "bench.workers.press", str(stage.images)),
    )

    async def bare() -> Mapping[str, float]:
        found = await _ask(stage, decode, "bare", "images", threads=cpu_count())
        found |= await _ask(stage, tower, "tower", "forward")
        return found | {"images/both_cpu_ms": found["images/bare_cpu_ms"] + found["images/tower_cpu_ms"]}

    parts: dict[str, Part] = {"bare": bare}
    for side in sides(stage):
        name = f"{side.prefix}encoder"
        encoder = await stage.service("encoder", name, stage.encoder_settings, side.environment)
        asked: dict[str, Any] = {"address": encoder.address, "pids": {"server": encoder.pid}, "items": "images"}
        stream, unary = f"{side.prefix}stream", f"{side.prefix}unary"
        parts[stream] = partial(_ask, stage, caller, stream, "stream", **asked, message=MESSAGE)
        parts[unary] = partial(_ask, stage, caller, unary, "unary", **asked, callers=CALLERS)
    for peer in (TRITON, LITSERVE) if stage.options.peers else ():
        try:
            parts[peer.name] = await _peer(stage, peer)
        except (PeerMissingError, WorkerError) as error:
            results.missing[peer.name] = str(error)
            say(f"{peer.name} is left out: {error}")
    await in_rounds(parts, results, rounds=stage.options.rounds, say=say)


async def _ask(stage: Stage, worker: Worker, name: str, what: str, **asked: Any) -> dict[str, float]:
    options = stage.options
    found = await worker.ask(what, seconds=options.seconds, warm=options.warm, **asked)
    return {f"images/{name}_{figure}": value for figure, value in found.items()}


async def _peer(stage: Stage, peer: Peer) -> Part:
    worker = await stage.peer(peer.name, await prepare(peer), equal=False)

    async def part() -> Mapping[str, float]:
        options = stage.options
        found = await worker.ask("images", seconds=options.seconds, warm=options.warm, concurrency=CALLERS)
        return {f"images/{peer.name}_rate": read_figures(found).rate}

    return part


_STREAM, _UNARY = "EncodeStream", f"EncodeImages of 1, {CALLERS} callers"
_WAYS = ((_STREAM, "stream"), (_UNARY, "unary"))
_PARTS = "decode + resize"
# Of Triton and of LitServe: by stream, and by single calls.
_OF_PEERS = {"triton": (3.0, 2.0), "litserve": (5.0, 3.0)}

_CPU = tuple(
    Row(f"{way}, 640x480, free tower: server CPU", f"images/{ours}_server_cpu_ms", "images/bare_cpu_ms", _PARTS)
    for way, ours in _WAYS
)
_BOTH = Row(
    f"{_STREAM}, 640x480, free tower: server CPU",
    "images/stream_server_cpu_ms",
    "images/both_cpu_ms",
    f"{_PARTS} + the tower itself",
)
_RATES = tuple(
    Row(f"{way}, 640x480, free tower", f"images/{ours}_rate", "images/bare_rate", f"{_PARTS}, all cores", "/s")
    for way, ours in _WAYS
)
_BESIDE = tuple(
    Row(f"{way}, 640x480, free tower", f"images/{ours}_rate", f"images/{peer}_rate", f"{title}, same tower", "/s")
    for peer, title in TITLES.items()
    for way, ours in _WAYS
)

GROUP = Group(
    measure,
    (*_CPU, _BOTH, *_RATES, *_BESIDE),
    (
        Target(
            "server CPU an image, EncodeStream, free tower, of bare decode + resize",
            1.4,
            times("images/stream_server_cpu_ms", "images/bare_cpu_ms"),
            at="most",
        ),
        Target(
            "images/s by EncodeStream, free tower, of bare decode + resize on as many threads",
            0.65,
            times("images/stream_rate", "images/bare_rate"),
        ),
        Target(f"images/s by {CALLERS} callers, likewise", 0.45, times("images/unary_rate", "images/bare_rate")),
        *(
            Target(
                f"images/s by {way} against {TITLES[peer]} as documented, free tower",
                bound,
                times(f"images/{ours}_rate", f"images/{peer}_rate"),
            )
            for peer, bounds in _OF_PEERS.items()
            for (way, ours), bound in zip(_WAYS, bounds, strict=True)
        ),
    ),
)
