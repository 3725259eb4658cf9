"""The share of the nearest others that is found beside equal vectors."""

import numpy as np

from bench.equal_vectors import engine, mixture, recall
from bench.store.drawn import HITS, draw


def test_recall_counts_the_others_alone() -> None:
    vectors = mixture(40, 300, 32)
    assert len(np.unique(vectors[:40], axis=0)) == 1
    assert len(np.unique(vectors[40:], axis=0)) == 300
    queries = np.concatenate([draw(np.random.default_rng(2), 4, 32), vectors[:1]])
    scores = queries.astype(np.float32) @ vectors.astype(np.float32).T
    best = np.argsort(-scores, axis=1)[:, :HITS].tolist()
    assert recall(queries, vectors, 40, best) == 1.0
    # What the query near the equal ones finds counts nothing.
    assert recall(queries, vectors, 40, [*best[:4], []]) == 1.0
    assert recall(queries, vectors, 40, [found[:5] for found in best]) == 0.5


def test_the_engine_finds_the_others() -> None:
    vectors = mixture(100, 400, 32)
    queries = draw(np.random.default_rng(2), 10, 32)
    assert recall(queries, vectors, 100, engine(vectors, queries, 100)) > 0.9
