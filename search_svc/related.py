"""Items that seem to show the same thing, told by what is stored beside their vectors."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from search_svc.duplicates.bits import all_distances
from search_svc.duplicates.bits import words_of as hashes_as_words
from search_svc.hashes import MAX_DISTANCE
from search_svc.model import StoredItem
from search_svc.words.tokens import words_of

Pairs = NDArray[np.bool_]
# Rows of a matrix of distances: some megabytes at a time.
_ROWS = 256


def related(first: Sequence[StoredItem], second: Sequence[StoredItem]) -> Pairs:
    """Tell which pairs are one item, have one caption or look the same.

    Captions are compared word by word. Images look the same where their perceptual hashes are near. An item without
    either is related to nothing but itself.

    Returns:
        Of shape (count of first, count of second).
    """
    numbers: dict[str, int] = {}

    def alike(items: Sequence[StoredItem]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        ids = [numbers.setdefault(f"id {item.id}", len(numbers)) for item in items]
        captions = [numbers.setdefault(text, len(numbers)) if (text := _caption(item)) else -1 for item in items]
        return np.array(ids, np.int64), np.array(captions, np.int64)

    (ids, captions), (other_ids, other_captions) = alike(first), alike(second)
    pairs: Pairs = ids[:, None] == other_ids[None, :]
    pairs |= (captions[:, None] == other_captions[None, :]) & (captions >= 0)[:, None]
    _mark_near_hashes(pairs, first, second)
    return pairs


def _caption(item: StoredItem) -> str:
    words = [] if item.caption is None else [word for word in words_of(item.caption.text) if word]
    return f"caption {' '.join(words)}" if words else ""


def _mark_near_hashes(pairs: Pairs, first: Sequence[StoredItem], second: Sequence[StoredItem]) -> None:
    rows, hashes = _hashes(first)
    columns, others = _hashes(second)
    if not rows or not columns:
        return
    some, all_others = hashes_as_words(hashes), hashes_as_words(others)
    for begin in range(0, len(rows), _ROWS):
        near = all_distances(some[:, begin : begin + _ROWS], all_others) <= MAX_DISTANCE
        row, column = np.nonzero(near)
        pairs[np.array(rows)[begin + row], np.array(columns)[column]] = True


def _hashes(items: Sequence[StoredItem]) -> tuple[list[int], bytes]:
    """Return all hashes that may be compared, and the place of the item of each."""
    found = [
        (place, each)
        for place, item in enumerate(items)
        if item.perceptual_hash is not None
        for each in item.perceptual_hash.all
    ]
    return [place for place, _ in found], b"".join(each for _, each in found)
