"""Searches and look-ups in a collection of some thousand items, beside echoes and the SQL that they need."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from bench.figures import Target
from bench.measure import Results
from bench.rounds import Part, in_rounds, times
from bench.rows.group import Group, Row, Say
from bench.rows.sides import Side, before, sides
from bench.rows.store import COLLECTION, collection, fill, items, open_store, space_of
from bench.stage import NO_CACHE, Stage
from bench.worker import Worker

ITEMS, FEW = 5_000, 200
CALLERS = 8
Ways = dict[str, list[dict[str, Any]]]
Pids = dict[str, dict[str, int]]


async def measure(stage: Stage, results: Results, say: Say) -> None:
    """Measure SearchService itself, then the text search of a Router before it and a mock Encoder."""
    options = stage.options
    turns = await stage.worker("turns", "bench.workers.turns")
    ways: Ways = {}
    pids: Pids = {}
    for side in sides(stage):
        await _mesh(stage, side, ways, pids, say)

    async def single() -> Mapping[str, float]:
        found = await turns.ask("turns", ways=ways, pids=pids, seconds=len(ways) * options.seconds)
        return {f"search/{way}_{figure}": value for way, figures in found.items() for figure, value in figures.items()}

    several = {name: _several(stage, turns, name, way) for name, way in ways.items() if name.endswith("routed")}
    await in_rounds({"single": single, **several}, results, rounds=options.rounds, say=say)


async def _mesh(stage: Stage, side: Side, ways: Ways, pids: Pids, say: Say) -> None:
    """Start one checkout's mesh, fill it, and add the ways through it. The bare ones go to this checkout's database."""

    settings = {"MODEL": "mock", **NO_CACHE}
    encoder, store = await asyncio.gather(
        stage.service("encoder", f"{side.prefix}mock", settings, side.environment), open_store(stage, side)
    )
    space = await space_of(encoder)
    made = items(space, FEW if stage.options.smoke else ITEMS)
    say(f"{side.prefix}search: writing {len(made):,} items")
    await fill(store, collection(space), made)
    targets = {"ENCODER_TARGETS": encoder.address, "CAPTION_TARGETS": "", "SEARCH_TARGETS": store.search.address}
    router = await stage.service("router", f"{side.prefix}router", targets, side.environment)
    about: dict[str, Any] = {
        "collection": COLLECTION,
        "dimension": space.dimension,
        "space": space.id,
        "ids": [item.id for item in made],
        "uri": store.database.uri,
    }
    addresses = {"search": store.search.address, "items": store.search.address, "routed": router.address}
    ways |= {f"{side.prefix}{step}": [{"step": step, **about, "address": at}] for step, at in addresses.items()}
    servers = {"search": store.search.pid, "router": router.pid, "encoder": encoder.pid}
    pids |= {
        f"{side.prefix}search": {"search": store.search.pid},
        f"{side.prefix}items": {"search": store.search.pid},
        f"{side.prefix}routed": servers,
    }
    if not side.prefix:
        hop = {"step": "echo", "address": await (await stage.echo(store.search)).ask("address")}
        nearest, select = ({"step": step, **about} for step in ("nearest", "select"))
        ways |= {
            "bare_search": [hop, nearest],
            "bare_items": [hop, select],
            "bare_routed": [hop, hop, hop, nearest],
        }


def _several(stage: Stage, turns: Worker, name: str, way: list[dict[str, Any]]) -> Part:
    async def part() -> Mapping[str, float]:
        found = await turns.ask("callers", way=way, count=CALLERS, seconds=stage.options.seconds)
        return {f"search/{name}_rate": found["rate"]}

    return part


_SEARCH_MS, _ITEMS_MS, _ROUTED_MS = (f"search/{way}_p50_ms" for way in ("search", "items", "routed"))
_BARE_SEARCH_MS, _BARE_ITEMS_MS, _BARE_ROUTED_MS = (
    f"search/bare_{way}_p50_ms" for way in ("search", "items", "routed")
)
_RATE = "search/routed_rate"
GROUP = Group(
    measure,
    (
        Row(f"Search by vector, {ITEMS:,} items, p50", _SEARCH_MS, _BARE_SEARCH_MS, "echo + the same SQL, prepared"),
        Row("Search by vector: CPU of Search", "search/search_search_cpu_ms"),
        Row("GetItems of 1, p50", _ITEMS_MS, _BARE_ITEMS_MS, "echo + one select by id"),
        Row("GetItems of 1: CPU of Search", "search/items_search_cpu_ms"),
        Row("text search through the Router, mock, p50", _ROUTED_MS, _BARE_ROUTED_MS, "three echoes + the SQL"),
        *(
            Row(f"text search: CPU of {name.capitalize()}", f"search/routed_{name}_cpu_ms")
            for name in ("router", "encoder", "search")
        ),
        Row(f"text search, {CALLERS} callers", _RATE, "search/bare_routed_rate", "three echoes + the SQL", "/s"),
    ),
    (
        Target("Search by vector p50 of echo + bare SQL", 1.6, times(_SEARCH_MS, _BARE_SEARCH_MS), at="most"),
        Target("GetItems of 1 p50 of echo + one select", 1.8, times(_ITEMS_MS, _BARE_ITEMS_MS), at="most"),
        Target(
            "text search through the Router p50 of three echoes + bare SQL",
            1.6,
            times(_ROUTED_MS, _BARE_ROUTED_MS),
            at="most",
        ),
        Target(f"text searches/s of {CALLERS} callers, of the other checkout's", 3.0, times(_RATE, before(_RATE))),
    ),
)
