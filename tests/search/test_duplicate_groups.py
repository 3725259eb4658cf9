"""Groups of items that look the same, against the rule of the contract written down the slow way."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from search_svc.duplicates import near_pairs, stars
from search_svc.duplicates.bits import all_distances
from search_svc.duplicates.grouping import GroupPart, GroupSearch
from search_svc.duplicates.items import CollectedItems, HashedItem
from search_svc.hashes import PerceptualHash
from tests.search.near_hashes import altered, distance, hash_of, perceptual, some_bits

MOMENT = datetime(2026, 5, 1, tzinfo=UTC)
DIGEST = bytes(range(32))


def made(item_id: str, at: int = 0, hash_: PerceptualHash | None = None, digest: bytes = b"") -> HashedItem:
    return HashedItem(item_id, MOMENT + timedelta(microseconds=at), digest, hash_)


def search(items: Sequence[HashedItem], most: int = 31, page: int = 7) -> GroupSearch:
    collected = CollectedItems()
    for begin in range(0, len(items), page):
        collected.add(items[begin : begin + page])
    searched = GroupSearch(collected, most)
    shares = list(searched.steps())
    assert shares == sorted(shares)
    assert shares[-1] == 1
    return searched


def whole(searched: GroupSearch, most: int = 1000) -> list[GroupPart]:
    """Groups, joined of their parts."""
    groups: list[GroupPart] = []
    for part in searched.parts(most):
        assert sum(len(group.items) for group in part) <= most
        for group in part:
            if group.first_item:
                assert len(groups[-1].items) == group.first_item
                groups[-1] = groups[-1]._replace(items=groups[-1].items + group.items)
            else:
                groups.append(group)
    assert [group.number for group in groups] == list(range(searched.group_count))
    assert all(len(group.items) == group.item_count for group in groups)
    assert sum(group.item_count for group in groups) == searched.item_count
    return groups


def ids(items: Sequence[HashedItem], most: int = 31) -> list[list[tuple[str, int]]]:
    return [[(item.id, item.distance) for item in group.items] for group in whole(search(items, most))]


def expected(items: Sequence[HashedItem], most: int) -> list[list[tuple[str, int]]]:
    """The rule of StartFindDuplicatesRequest, word for word."""
    order = sorted(items, key=lambda item: (item.create_time, item.id.encode()))
    donors: dict[bytes, HashedItem] = {}
    for item in order:
        if item.content_digest and item.perceptual_hash and item.perceptual_hash.all:
            donors.setdefault(item.content_digest, item)

    def hashes(item: HashedItem) -> tuple[bytes, ...]:
        if item.perceptual_hash and item.perceptual_hash.all:
            return item.perceptual_hash.all
        donor = donors.get(item.content_digest)
        return donor.perceptual_hash.all if donor and donor.perceptual_hash else ()

    def far(one: HashedItem, other: HashedItem) -> int:
        if hashes(one) and hashes(other):
            return min(distance(a, b) for a in hashes(one) for b in hashes(other))
        alike = not hashes(one) and not hashes(other) and one.content_digest == other.content_digest
        return 0 if alike else 999

    compared = [item for item in order if hashes(item) or item.content_digest]
    stands: list[HashedItem] = []
    for item in compared:
        if all(far(item, other) > most for other in stands):
            stands.append(item)
    groups: dict[str, list[tuple[int, int, str]]] = {item.id: [] for item in stands}
    for place, item in enumerate(compared):
        bits, _, chosen = min((far(item, other), place, other.id) for place, other in enumerate(stands))
        groups[chosen].append((bits, place, item.id))
    several = [sorted(group) for group in groups.values() if len(group) > 1]
    return [[(item_id, bits) for bits, _, item_id in group] for group in sorted(several, key=len, reverse=True)]


def crowd(seed: int, count: int) -> list[HashedItem]:
    """Copies of copies, frames, items without hashes, in no order."""
    rng = np.random.default_rng(seed)
    grounds = [hash_of(n) for n in range(max(1, count // 8))]
    items = []
    for n in range(count):
        ground = grounds[int(rng.integers(len(grounds)))]
        hash_ = altered(ground, some_bits(rng, int(rng.integers(0, 24))))
        unframed = altered(grounds[int(rng.integers(len(grounds)))], some_bits(rng, 9)) if rng.random() < 0.2 else b""
        quality = int(rng.choice([0, 49, 50, 100]))
        looks = None if rng.random() < 0.1 else PerceptualHash(hash_, quality, unframed)
        digest = bytes([int(rng.integers(20))] * 32) if rng.random() < 0.5 else b""
        items.append(made(f"i{int(rng.integers(1 << 30))}-{n}", int(rng.integers(1 + count // 4)), looks, digest))
    return items


@pytest.mark.parametrize(("seed", "count", "most"), [(1, 200, 31), (2, 200, 16), (3, 120, 5), (4, 120, 0), (5, 1, 31)])
def test_groups_are_those_of_the_rule(monkeypatch: pytest.MonkeyPatch, seed: int, count: int, most: int) -> None:
    # Small halves, and an index also of few.
    monkeypatch.setattr(stars, "_LEAF", 5)
    monkeypatch.setattr(near_pairs, "_LEAST_INDEXED", 10)
    items = crowd(seed, count)
    assert ids(items, most) == expected(items, most)
    # In whichever order a store lists them.
    assert ids(items[::-1], most) == expected(items, most)


def test_a_chain_is_no_group() -> None:
    """Each is near to the next one: the first stands for its neighbour, and what is beyond that for itself."""
    chain = [made(f"{n}", n, perceptual(1, *range(20 * n))) for n in range(4)]
    assert ids(chain) == [[("0", 0), ("1", 20)], [("2", 0), ("3", 20)]]
    # The nearest representative counts, not the first.
    between = made("x", 9, perceptual(1, *range(29)))
    assert ids([chain[0], chain[2], between]) == [[("2", 0), ("x", 11)]]


def test_the_first_made_stands_for_the_group() -> None:
    items = [made("a", 3, perceptual(1)), made("b", 1, perceptual(1, 4)), made("c", 2, perceptual(1))]
    assert ids(items) == [[("b", 0), ("c", 1), ("a", 1)]]
    # Those of one moment by id.
    assert ids([item._replace(create_time=MOMENT) for item in items]) == [[("a", 0), ("c", 0), ("b", 1)]]


def test_what_cannot_be_compared_is_counted() -> None:
    items = [
        made("none"),
        made("poor", hash_=perceptual(1, quality=49)),
        made("poor again", hash_=perceptual(1, quality=49)),
        made("file", hash_=perceptual(2, quality=0), digest=DIGEST),
        made("same file", digest=DIGEST),
        made("other file", digest=bytes([7] * 32)),
    ]
    searched = search(items)
    [group] = whole(searched)
    assert [(item.id, item.quality, item.same_content) for item in group.items] == [
        ("file", 0, True),
        ("same file", None, True),
    ]
    assert search([]).group_count == 0


def test_a_file_that_has_no_hash_yet_takes_that_of_its_twin() -> None:
    items = [
        made("twin", 1, digest=DIGEST),
        made("hashed", 2, perceptual(1), DIGEST),
        made("copy", 3, perceptual(1, 8), bytes([7] * 32)),
    ]
    [group] = whole(search(items))
    assert [(item.id, item.distance, item.same_content) for item in group.items] == [
        ("twin", 0, True),
        ("hashed", 0, True),
        ("copy", 1, False),
    ]


def test_large_groups_come_in_parts_and_the_largest_first() -> None:
    items = [made(f"{seed}-{n:02}", 10 * seed + n, perceptual(seed)) for seed in range(4) for n in range(2 + 3 * seed)]
    searched = search(items)
    for most in (1, 2, 5, 100):
        groups = whole(searched, most)
        assert [(group.item_count, group.items[0].id) for group in groups] == [
            (11, "3-00"),
            (8, "2-00"),
            (5, "1-00"),
            (2, "0-00"),
        ]


def test_many_items_of_one_hash_cost_no_more_than_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither those of one hash, nor different ones that are all near to one another, are compared with each other."""
    compared = 0

    def counted(some: np.ndarray, others: np.ndarray) -> np.ndarray:
        nonlocal compared
        compared += some.shape[1] * others.shape[1]
        return all_distances(some, others)

    monkeypatch.setattr(near_pairs, "all_distances", counted)
    monkeypatch.setattr(stars, "all_distances", counted)
    rng = np.random.default_rng(1)
    count = 6_000
    equal = [made(f"{n}", n, perceptual(1)) for n in range(count)]
    assert whole(search(equal, page=count), most=count)[0].item_count == count
    assert compared < 10
    near = [made(f"{n}", n, perceptual(2, *some_bits(rng, 15))) for n in range(count)]
    assert whole(search(near, page=count), most=count)[0].item_count == count
    assert compared < count * stars._LEAF
