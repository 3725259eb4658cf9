"""Recall of searches beside thousands of equal vectors: how many of the nearest others an index finds.

    python -m bench.equal_vectors          an embedded PostgreSQL and Qdrant's engine in process, some minutes
    python -m bench.equal_vectors --equal 5000 --others 20000 --searches 200

Each store is filled once with the others alone, and once with the equal ones before them. PostgreSQL is asked through
the Store, at its default `hnsw_ef`. Qdrant's engine (qdrant-edge) gets the vectors, the parameters of the graph and the
`ef` that the Store would send; of a cluster's segments and replicas it says nothing. Queries whose true nearest include
the equal vector do not count.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence

import numpy as np
import qdrant_edge as edge
from numpy.typing import NDArray

from bench.store.drawn import HITS, Vectors, draw, items
from bench.store.filling import BATCH, PATIENCE_S, definition
from bench.store.searches import ask, kinds
from bench.stores import own_postgres
from encoder_svc.models.mock import DIMENSIONS
from search_svc.app import make_store
from search_svc.model import Hnsw
from search_svc.settings import SearchSettings

_LOOK_S = 0.5
_SPACE = "image"
Found = Sequence[Sequence[int]]


def mixture(equal: int, others: int, dimension: int) -> Vectors:
    """Return vectors, of shape (equal + others, dimension): the equal ones first."""
    one = draw(np.random.default_rng(4), 1, dimension)
    return np.concatenate([np.repeat(one, equal, axis=0), draw(np.random.default_rng(1), others, dimension)])


def recall(queries: Vectors, vectors: Vectors, equal: int, found: Found) -> float:
    """Return the share of the true nearest that searches found, 0 to 1.

    Args:
        queries: of shape (n, d).
        vectors: what was searched, of shape (m, d).
        equal: how many of them, from the first on, are one vector.
        found: numbers of the vectors that each search found.
    """
    scores: NDArray[np.float32] = queries.astype(np.float32) @ vectors.astype(np.float32).T
    nearest = np.argsort(-scores, axis=1)[:, :HITS]
    shares = [
        len(set(hits) & set(best.tolist())) / HITS
        for hits, best in zip(found, nearest, strict=True)
        if best.min() >= equal
    ]
    return float(np.mean(shares))


async def postgres(url: str, vectors: Vectors, queries: Vectors) -> Found:
    """Fill a collection of PostgreSQL, build its index, and search."""
    store = make_store(SearchSettings(store_url=url, store_idle_seconds=60))
    await store.open()
    try:
        name = f"bench_{len(vectors)}"
        made = await store.create_collection(definition(name, vectors.shape[1], deferred=True), timeout_s=PATIENCE_S)
        for begin in range(0, len(vectors), BATCH):
            batch = items(vectors[begin : begin + BATCH], begin)
            await store.upsert(made.collection, batch, timeout_s=PATIENCE_S)
        await store.build_indexes(made.collection, timeout_s=PATIENCE_S)
        while (await store.count_items(made.collection, timeout_s=PATIENCE_S)).indexes:
            await asyncio.sleep(_LOOK_S)
            # Looks after a build that failed as well.
            await store.build_indexes(made.collection, timeout_s=PATIENCE_S)
        collection = await store.find_collection(name, fresh=True, timeout_s=PATIENCE_S)
        _, found = await ask(store, collection, next(kinds()), queries)
        return [[int(item_id) for item_id in ids] for ids in found]
    finally:
        await store.close()


def engine(vectors: Vectors, queries: Vectors, ef: int) -> Found:
    """Fill a shard of Qdrant's engine, let its optimizer build the graph, and search."""
    hnsw = Hnsw()
    graph = edge.HnswIndexConfig(m=hnsw.m, ef_construct=hnsw.ef_construction, full_scan_threshold=10)
    params = edge.EdgeVectorParams(
        size=vectors.shape[1],
        distance=edge.Distance.Dot,
        datatype=edge.VectorStorageDatatype.Float16,
        hnsw_config=graph,
    )
    with tempfile.TemporaryDirectory(prefix="lensmesh-bench-") as folder:
        optimizers = edge.EdgeOptimizersConfig(default_segment_number=1, indexing_threshold=1)
        shard = edge.EdgeShard.create(folder, edge.EdgeConfig(vectors={_SPACE: params}, optimizers=optimizers))
        try:
            for begin in range(0, len(vectors), BATCH):
                rows = vectors[begin : begin + BATCH].astype(np.float32).tolist()
                points = [edge.Point(number, {_SPACE: row}, {}) for number, row in enumerate(rows, start=begin)]
                shard.update(edge.UpdateOperation.upsert_points(points))
            shard.optimize()
            info = shard.info()
            if info.indexed_vectors_count < len(vectors):
                raise RuntimeError(f"the engine has a graph of {info.indexed_vectors_count} of {len(vectors)} vectors")
            return [_nearest(shard, query, ef) for query in queries]
        finally:
            shard.close()


def _nearest(shard: edge.EdgeShard, query: NDArray[np.float16], ef: int) -> list[int]:
    near = edge.Query.Nearest(query.astype(np.float32).tolist(), using=_SPACE)
    request = edge.QueryRequest(limit=HITS, query=near, params=edge.SearchParams(hnsw_ef=ef, exact=False))
    return [int(point.id) for point in shard.query(request)]


def main() -> None:
    """Read the command line, measure and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--equal", type=int, default=5_000)
    parser.add_argument("--others", type=int, default=20_000)
    parser.add_argument("--searches", type=int, default=200)
    parser.add_argument("--dimension", type=int, default=512, choices=sorted(DIMENSIONS.values()))
    options = parser.parse_args()
    queries = draw(np.random.default_rng(2), options.searches, options.dimension)
    ef = SearchSettings(store_url="postgresql://unused").hnsw_ef
    with own_postgres() as url:
        for equal in (0, options.equal):
            vectors = mixture(equal, options.others, options.dimension)
            for name, found in (
                ("PostgreSQL", asyncio.run(postgres(url, vectors, queries))),
                ("Qdrant's engine", engine(vectors, queries, ef)),
            ):
                figure = recall(queries, vectors, equal, found)
                sys.stdout.write(
                    f"{name}: {options.others:,} others beside {equal:,} of one vector, hnsw_ef {ef}: "
                    f"recall@{HITS} of the others {figure:.3f}\n"
                )
                sys.stdout.flush()


if __name__ == "__main__":
    main()
