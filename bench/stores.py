"""The cost of the store: how fast items come in, how long a search takes, how many of the nearest an index finds.

    python -m bench.stores                          an embedded PostgreSQL, made for it and removed
    python -m bench.stores --sizes 10000 1000000    a million as well: some 20 minutes, 8 GB of disk, 4 of memory
    python -m bench.stores --store-url qdrant://... a store of your own; the collections bench_SIZE are made and removed

Vectors are drawn in clusters, as those of images lie. The index is built after the items are there. Times are of the
Store itself, without gRPC, one call at a time; kinds of searches take turns, round by round. What is truly nearest is
computed here, from all vectors.
"""

import argparse
import asyncio
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from rich.console import Console

from bench.store import rebuilding, routed
from bench.store.drawn import HITS, Truth, draw, spread
from bench.store.filling import PATIENCE_S, definition, disk, fill
from bench.store.searches import Kind, ask, kinds
from encoder_svc.models.mock import DIMENSIONS
from lensmesh_local.postgres.server import PostgresServer
from search_svc.app import make_store
from search_svc.settings import SearchSettings
from search_svc.store import Store

NAME = "bench"
_BEFORE_S = 60.0
_POSTGRES = ("postgresql:", "postgres:")


def say(line: str) -> None:
    """Print at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def measure(store: Store, uri: str, sizes: Sequence[int], options: argparse.Namespace) -> None:
    """Measure at each size, and print the figures."""
    await store.open()
    say(f"{store.describe()}; {options.dimension} numbers as float16, {HITS} hits, {options.searches} searches a round")
    plain: dict[int, float] = {}
    for size in sizes:
        name = f"{NAME}_{size}"
        if not options.keep:
            await store.delete_collection(name, timeout_s=PATIENCE_S)
        queries = draw(np.random.default_rng(2), options.searches, options.dimension)
        truth = Truth(queries)
        wanted = definition(name, options.dimension, deferred=not options.on_write)
        filled = await fill(store, wanted, size, truth, console=Console(stderr=True))
        say(f"{size:>9,} items | {filled.told()}")
        if uri.startswith(_POSTGRES):
            say(f"{size:>9,} items | {await disk(uri, filled.collection)}")
        medians: dict[str, list[float]] = {}
        chosen: list[tuple[Kind, bool]] = [(kind, False) for kind in kinds()]
        if size <= options.exact_up_to:
            chosen.append((Kind("exact", next(kinds()).query, of=1), True))
        lines: dict[str, list[str]] = {}
        for _ in range(options.rounds):
            for kind, exact in chosen:
                times, found = await ask(store, filled.collection, kind, queries, exact=exact)
                figures = spread(times)
                medians.setdefault(kind.name, []).append(figures["p50"])
                line = " / ".join(f"{figures[key]:,.2f}" for key in ("p50", "p95", "p99"))
                hits = statistics.mean(map(len, found))
                line += f" ms; {hits:g} hits"
                if kind.of is not None:
                    line += f", recall@{HITS} {truth.recall(found, kind.of):.4f}"
                lines.setdefault(kind.name, []).append(line)
        base = statistics.median(medians["plain"])
        plain[size] = base
        for name_of_kind, rounds in lines.items():
            ratio = statistics.median(medians[name_of_kind]) / base
            say(f"{size:>9,} items | {name_of_kind}, {ratio:.2f} of plain; p50 / p95 / p99 of each round")
            for line in rounds:
                say(f"{'':>15} | {line}")
        if not options.keep:
            await store.delete_collection(name, timeout_s=PATIENCE_S)
    if options.routed:
        names = [f"{NAME}_{size}" for size in sizes]
        async for line in routed.measure(uri, names, searches=options.searches, rounds=options.rounds):
            say(line)
    if options.rebuild:
        async for line in rebuilding.measure(uri, f"{NAME}_{max(sizes)}", seconds=_BEFORE_S):
            say(line)
    if len(plain) > 1:
        least, most = min(plain), max(plain)
        say(f"p50 of plain with {most:,} items, of that with {least:,}: {plain[most] / plain[least]:.2f}")
    await store.close()


@contextmanager
def own_postgres() -> Iterator[str]:
    """Run a PostgreSQL as `lensmesh up` starts it, durable, in a temporary folder."""
    folder = Path(tempfile.mkdtemp(prefix="lensmesh-bench-")).resolve()
    try:
        server = PostgresServer(folder)
        try:
            server.start()
            yield server.uri
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store-url", default="", help="a store of your own")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 50_000])
    parser.add_argument("--dimension", type=int, default=512, choices=sorted(DIMENSIONS.values()))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--searches", type=int, default=200)
    parser.add_argument("--on-write", action="store_true", help="build the index with every write, not at the end")
    parser.add_argument("--exact-up-to", type=int, default=50_000, help="items up to which exact searches are measured")
    parser.add_argument("--build-memory-bytes", type=int, default=4 << 30, help="what PostgreSQL may take to build")
    parser.add_argument("--routed", action="store_true", help="text searches through a Router at the end; with --keep")
    parser.add_argument("--rebuild", action="store_true", help="searches while an index is built anew; likewise")
    parser.add_argument("--keep", action="store_true", help="leave the collections, and take up those that are there")
    options = parser.parse_args()
    if (options.routed or options.rebuild) and not options.keep:
        parser.error("--routed and --rebuild measure collections that are kept: give --keep too")

    def run(url: str) -> None:
        settings = SearchSettings(
            store_url=url,
            build_memory_bytes=options.build_memory_bytes,
            # This process draws vectors and compares them: on a busy machine it stands still for seconds.
            store_idle_seconds=60,
        )
        asyncio.run(measure(make_store(settings), url, sorted(options.sizes), options))

    if options.store_url:
        run(options.store_url)
    else:
        with own_postgres() as url:
            run(url)


if __name__ == "__main__":
    main()
