"""Different images among many items: items of one hash, or of one file, count as one image."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search_svc.duplicates.items import ItemColumns
from search_svc.duplicates.stars import Looks

_LAST = np.iinfo(np.int64).max


@dataclass(frozen=True)
class ImagesOfItems:
    """Images, and which item shows which. Those that have a hash come first, and these are what is compared."""

    of_item: NDArray[np.int64]
    """The image of each item."""
    first: NDArray[np.int64]
    """The first item of each image."""
    looks: Looks
    """Hashes of the images that have any, in the order of their first items."""


def images_of(items: ItemColumns) -> ImagesOfItems:
    """Tell which items show one image.

    Those with a hash do where all of their hashes are equal. One without takes the hash of the first item that has its
    digest and a hash; where there is none, those of one digest show one image.
    """
    count = len(items.times)
    if not count:
        empty = np.empty(0, dtype=np.int64)
        return ImagesOfItems(empty, empty, Looks(np.empty((4, 0), np.uint64), np.empty((4, 0), np.uint64), empty))
    second = np.zeros((count, items.unframed.shape[1]), dtype=np.uint64)
    second[items.framed] = items.unframed
    is_framed = np.zeros(count, dtype=np.uint64)
    is_framed[items.framed] = 1
    with_hash, without = np.flatnonzero(items.hashed), np.flatnonzero(~items.hashed)
    of_item = np.full(count, _LAST)
    hashes = np.concatenate((items.hashes, second, is_framed[:, None]), axis=1)
    of_item[with_hash] = _runs(hashes[with_hash])
    number_of_hashes = int(of_item[with_hash].max()) + 1 if len(with_hash) else 0
    if len(without):
        _by_digest(items, of_item, without, number_of_hashes)
    first = np.full(int(of_item.max()) + 1, _LAST)
    np.minimum.at(first, of_item, np.arange(count))
    order = np.argsort(first[:number_of_hashes])
    new = np.concatenate((np.empty(number_of_hashes, dtype=np.int64), np.arange(number_of_hashes, len(first))))
    new[order] = np.arange(number_of_hashes)
    # An item that has the image's hash: the first may have taken it from another.
    shows = np.full(number_of_hashes, _LAST)
    np.minimum.at(shows, of_item[with_hash], with_hash)
    shows = shows[order]
    framed = np.flatnonzero(is_framed[shows])
    looks = Looks(np.ascontiguousarray(items.hashes[shows].T), np.ascontiguousarray(second[shows[framed]].T), framed)
    return ImagesOfItems(new[of_item], np.concatenate((first[order], first[number_of_hashes:])), looks)


def _runs(rows: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Number the different rows, and return the number of each row."""
    order = np.lexsort(rows.T[::-1])
    is_new = np.zeros(len(rows), dtype=np.int64)
    is_new[1:] = (rows[order[1:]] != rows[order[:-1]]).any(axis=1)
    numbers = np.empty(len(rows), dtype=np.int64)
    numbers[order] = np.cumsum(is_new)
    return numbers


def _by_digest(
    items: ItemColumns, of_item: NDArray[np.int64], without: NDArray[np.int64], number_of_hashes: int
) -> None:
    """Give items without a hash an image."""
    digests = _runs(items.digests)
    donor = np.full(int(digests.max()) + 1, _LAST)
    donors = np.flatnonzero(items.hashed & items.digested)
    np.minimum.at(donor, digests[donors], donors)
    theirs = donor[digests[without]]
    taken = theirs != _LAST
    of_item[without[taken]] = of_item[theirs[taken]]
    alone = without[~taken]
    of_item[alone] = number_of_hashes + np.unique(digests[alone], return_inverse=True)[1].reshape(-1)
