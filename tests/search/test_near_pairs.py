"""Near pairs of hashes: all of them and no others, by the index and without."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from search_svc.duplicates import bits, near_pairs
from search_svc.duplicates.bits import all_distances, words_of
from tests.search.near_hashes import altered, distance, hash_of, some_bits

Pairs = dict[tuple[int, int], int]


def found(first: Sequence[bytes], second: Sequence[bytes], most: int) -> Pairs:
    pairs: Pairs = {}
    share = 0.0
    wanted = np.ones(len(first), dtype=np.bool_)
    for step in near_pairs.near_pairs(words_of(b"".join(first)), words_of(b"".join(second)), most, wanted):
        assert share <= step.share <= 1
        share = step.share
        for one, other, far in zip(step.found.first, step.found.second, step.found.distance, strict=True):
            assert pairs.setdefault((int(one), int(other)), int(far)) == far
    assert share == pytest.approx(1)
    return pairs


def truth(first: Sequence[bytes], second: Sequence[bytes], most: int) -> Pairs:
    pairs = itertools.product(enumerate(first), enumerate(second))
    return {(i, j): far for (i, one), (j, other) in pairs if (far := distance(one, other)) <= most}


@pytest.mark.parametrize("most", [0, 1, 15, 16, 31])
@pytest.mark.parametrize("cost", [4, 1 << 40])
def test_all_near_pairs_are_found(monkeypatch: pytest.MonkeyPatch, most: int, cost: int) -> None:
    # By the index, and with a cost that rules it out; in small steps.
    monkeypatch.setattr(near_pairs, "_INDEX_COST", cost)
    monkeypatch.setattr(near_pairs, "_LEAST_INDEXED", 1)
    monkeypatch.setattr(near_pairs, "_QUERIES", 7)
    monkeypatch.setattr(near_pairs, "_PAIRS", 32)
    rng = np.random.default_rng(most)
    second = [hash_of(i) for i in range(60)]
    # As far as they may be, a bit farther, and evenly over the bands, where no band is left without a difference.
    first = [altered(second[i], some_bits(rng, far)) for i, far in enumerate((0, 1, 2, most, most + 1, 31, 32, 40))]
    spread = [16 * (n % 16) + n // 16 for n in range(31)]
    first += [
        altered(second[9], spread[:most]),
        altered(second[10], [*spread, 5]),
        *(hash_of(i) for i in range(90, 99)),
    ]
    assert found(first, second, most) == truth(first, second, most)


def test_hashes_that_share_most_bands() -> None:
    """As plain drawings do: the index would find all of them in each band."""
    rng = np.random.default_rng(3)
    ground = hash_of(1)
    hashes = [altered(ground, some_bits(rng, int(n))) for n in rng.integers(0, 60, 120)]
    assert found(hashes, hashes, 31) == truth(hashes, hashes, 31)


def test_those_that_are_not_wanted_any_more_are_left_out() -> None:
    one = [hash_of(1)] * 3
    wanted = np.array([True, False, True])
    steps = near_pairs.near_pairs(words_of(b"".join(one)), words_of(hash_of(1)), 31, wanted)
    assert {int(first) for step in steps for first in step.found.first} == {0, 2}
    assert list(near_pairs.near_pairs(words_of(b""), words_of(hash_of(1)), 31, np.ones(0, dtype=np.bool_))) == []


def test_bits_are_counted_alike_without_numpys_own_function() -> None:
    rng = np.random.default_rng(2)
    some = rng.integers(0, 1 << 64, (4, 9), dtype=np.uint64)
    assert (bits._count_by_table(some) == bits.count_bits(some)).all()
    expected = [[distance(one.tobytes(), other.tobytes()) for other in some.T] for one in some.T]
    assert all_distances(some, some).tolist() == expected
