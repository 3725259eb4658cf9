"""Filling batches up to the shapes that a GPU is prepared for; tried on the CPU, where eager torch is the reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lensmesh_inference.backends.buckets import fill, fitting, length_buckets, row_buckets, shapes
from lensmesh_inference.backends.cuda_tower import CudaTower
from lensmesh_inference.backends.torch_tower import TorchTower
from lensmesh_inference.backends.tower import Placement
from tests.inference.backends.networks import network


@pytest.mark.parametrize("most", [1, 2, 3, 5, 32, 48, 100, 256])
def test_rows_are_filled_up_by_less_than_half(most: int) -> None:
    sizes = row_buckets(most)
    assert sizes == sorted(set(sizes))
    assert sizes[0] == 1
    assert sizes[-1] == most
    for rows in range(1, most + 1):
        fit = next(size for size in sizes if size >= rows)
        assert fit < 1.5 * rows or fit == rows


@pytest.mark.parametrize(
    ("longest", "sizes"), [(0, [0]), (5, [5]), (8, [8]), (16, [8, 16]), (20, [8, 16, 20]), (77, [8, 16, 32, 64, 77])]
)
def test_lengths(longest: int, sizes: list[int]) -> None:
    assert length_buckets(longest) == sizes


@pytest.mark.parametrize(("most", "longest"), [(1, 8), (6, 20), (32, 77)])
def test_every_batch_of_texts_fits_a_prepared_shape(most: int, longest: int) -> None:
    prepared = set(shapes(torch.zeros(2, 4, dtype=torch.long), most, longest))
    for rows in range(1, most + 1):
        for length in range(2, longest + 1):
            shape = fitting(torch.zeros(rows, length), most, longest)
            assert shape in prepared
            assert shape[0] >= rows
            assert shape[1] >= length


def test_the_edges_of_images() -> None:
    image = torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
    prepared = set(shapes(image, 6, 0))
    assert prepared == {(rows, 3, 4, 4) for rows in (1, 2, 3, 4, 6)}
    assert fitting(image.expand(5, 3, 4, 4), 6, 0) == (6, 3, 4, 4)
    assert fitting(image.expand(6, 3, 4, 4), 6, 0) == (6, 3, 4, 4)
    assert fitting(image.expand(7, 3, 4, 4), 6, 0) is None
    assert fitting(torch.zeros(2, 78), 6, 77) is None


def test_what_an_earlier_batch_left_is_not_seen() -> None:
    place = torch.zeros(3, 8, dtype=torch.long)
    fill(place, torch.full((3, 8), 7))
    fill(place, torch.tensor([[1, 2, 3], [4, 5, 6]]))
    assert place[:2].tolist() == [[1, 2, 3, 0, 0, 0, 0, 0], [4, 5, 6, 0, 0, 0, 0, 0]]


class OnTheCpu(CudaTower):
    """A tower whose graphs are eager forwards of whole buckets: all but the recording is what a GPU runs."""

    def __init__(self, most: int) -> None:
        net = network()
        TorchTower.__init__(self, net.name, net.module, torch.device("cpu"))
        self._most_rows, self._longest = most, 0
        self.filled: list[int] = []
        self._recorded = {shape: self.graph(shape) for shape in shapes(net.example, most, 0)}  # type: ignore[misc]

    def graph(self, shape: tuple[int, ...]) -> object:
        place = torch.randint(0, 256, shape, dtype=torch.uint8)

        def replay(batch: torch.Tensor) -> np.ndarray:
            fill(place, batch)
            self.filled.append(len(place))
            return TorchTower.run(self, place)[: len(batch)]

        return replay


def test_filled_up_batches_give_the_same_rows() -> None:
    tower = OnTheCpu(4)
    images = torch.randint(0, 256, (6, 3, 16, 16), dtype=torch.uint8)
    alone = np.concatenate([TorchTower.run(tower, images[number : number + 1]) for number in range(6)])
    for rows in (1, 2, 3, 4, 5, 6):
        np.testing.assert_allclose(tower.run(images[:rows]), alone[:rows], atol=1e-6)
    # Five and six are more than it is prepared for, and go as they are.
    assert tower.filled == [1, 2, 3, 4]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_recorded_graphs_compute_the_same() -> None:
    net = network()
    tower = CudaTower(net, net.module.to("cuda:0"), Placement(torch.device("cuda:0"), 1, max_batch=4))
    eager = TorchTower(net.name, net.module, torch.device("cuda:0"))
    for rows in (1, 3, 4, 5):
        batch = torch.randint(0, 256, (rows, 3, 16, 16), dtype=torch.uint8)
        np.testing.assert_allclose(tower.run(batch), eager.run(batch), atol=1e-4)
