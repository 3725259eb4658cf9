"""A few shapes for many batches.

Each batch is filled up to the next shape, so that a device can be prepared for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import torch


def row_buckets(most: int) -> list[int]:
    """Return 1, 2, 3, 4, 6, 8, 12, 16, 24 ... `most`, none for 0. A batch is filled up by less than half of itself."""
    sizes = {most}
    power = 1
    while power < most:
        sizes |= {power, power + power // 2}
        power *= 2
    return sorted(size for size in sizes if 0 < size <= most)


def length_buckets(longest: int) -> list[int]:
    """Return 8, 16, 32 ... `longest`, for texts. Return [0] for inputs whose length does not vary."""
    if not longest:
        return [0]
    sizes = [longest]
    length = 8
    while length < longest:
        sizes.append(length)
        length *= 2
    return sorted(sizes)


def shapes(example: torch.Tensor, most_rows: int, longest: int) -> Iterator[tuple[int, ...]]:
    """Yield every shape that batches like `example` are filled up to, the largest first."""
    for rows, length in reversed(list(product(row_buckets(most_rows), length_buckets(longest)))):
        yield (rows, length, *example.shape[2:]) if length else (rows, *example.shape[1:])


def fitting(batch: torch.Tensor, most_rows: int, longest: int) -> tuple[int, ...] | None:
    """Return the shape that a batch is filled up to. None: the batch is larger than all of them."""
    rows = next((size for size in row_buckets(most_rows) if size >= len(batch)), None)
    if rows is None:
        return None
    if not longest:
        return (rows, *batch.shape[1:])
    length = next((size for size in length_buckets(longest) if size >= batch.shape[1]), None)
    return None if length is None else (rows, length, *batch.shape[2:])


def fill(place: torch.Tensor, batch: torch.Tensor) -> None:
    """Write a batch into the first corner of `place`.

    Rows behind it keep their old content, which nobody reads. Zeros stand behind a text; a causal tower does not see
    them.
    """
    if batch.ndim > 1 and batch.shape[1] < place.shape[1]:
        place[: len(batch)].zero_()
        place[: len(batch), : batch.shape[1]] = batch
    else:
        place[: len(batch)] = batch
