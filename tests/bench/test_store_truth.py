"""What is truly nearest in a drawn collection, and which share of it a search found."""

import numpy as np

from bench.store.drawn import HITS, SERIES, Truth, draw, pieces


def test_the_truth_is_the_same_in_pieces_and_in_one() -> None:
    queries = draw(np.random.default_rng(2), 4, 32)
    vectors = np.concatenate([piece for _, piece in pieces(25_000, 32)])
    assert len(vectors) == 25_000
    truth = Truth(queries)
    for begin, piece in pieces(25_000, 32):
        truth.see(piece, begin)
    scores = queries.astype(np.float32) @ vectors.astype(np.float32).T
    best = np.argsort(-scores, axis=1)[:, :HITS]
    found = [[f"{number:08}" for number in row] for row in best]
    assert truth.recall(found, 1) == 1.0
    assert truth.recall([ids[:5] for ids in found], 1) == 0.5
    chosen = np.arange(7, 25_000, SERIES)
    best_of_those = chosen[np.argsort(-scores[:, chosen], axis=1)[:, :HITS]]
    assert truth.recall([[f"{number:08}" for number in row] for row in best_of_those], SERIES) == 1.0
    assert truth.recall(found, SERIES) < 0.5
