"""Captions that `lensmesh calibrate` measures with."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import numpy as np
import pytest

from lensmesh_cli.commands.calibrate import LEAST_TEXTS, captions_of
from lensmesh_client import Caption, Embeddings, Item


class Mesh:
    """A client of a collection with these captions; every text has a vector."""

    def __init__(self, captions: list[str]) -> None:
        self.items = self
        self.listed = 0
        self._captions = captions

    async def list(self, **_: Any) -> AsyncIterator[Item]:
        for number, caption in enumerate(self._captions):
            self.listed += 1
            yield Item(str(number), caption=Caption(caption))

    async def embed(self, texts: Sequence[str], space_id: str) -> Embeddings:
        return Embeddings(np.ones((len(texts), 2), np.float32), space_id, {}, (), ())


async def chosen(mesh: Any, count: int) -> list[int]:
    return [int(item_id) for item_id in await captions_of(mesh, "art", "space", count)]


async def test_one_item_of_each_caption() -> None:
    mesh = Mesh([f"{'A' if i % 2 else 'a'} boat{' ' * (1 + i % 3)}{i // 10}{'.' if i % 2 else ''}" for i in range(900)])
    assert await chosen(mesh, 30) == list(range(0, 300, 10))
    assert mesh.listed == 291


async def test_others_fill_up_where_captions_are_few() -> None:
    assert await chosen(Mesh([f"boat {i % 5}" for i in range(100)]), 30) == list(range(LEAST_TEXTS))


@pytest.mark.parametrize("count", [30, 200])
async def test_a_large_collection_is_not_read_to_its_end(count: int) -> None:
    mesh = Mesh(["a boat"] * 10_000)
    assert len(await chosen(mesh, count)) == LEAST_TEXTS
    assert mesh.listed == 20 * count
