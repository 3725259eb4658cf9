"""What int8 leaves out, and that of several quantized models the nearest to float32 is kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from lensmesh_inference.backends import quantization
from lensmesh_inference.backends.folder import CompiledFolder
from lensmesh_inference.backends.openvino_import import import_quietly
from lensmesh_inference.backends.quantization import Calibration, behind_attention
from lensmesh_inference.backends.tower import TowerSpec


def attention(*, read_twice: bool) -> Any:
    """Attention of two heads and a projection; `read_twice`: its shape is asked for as well."""
    openvino, ops = import_quietly("openvino"), import_quietly("openvino.opset13")
    heads = ops.parameter([-1, 2, 4, 8], np.float32)
    joined = ops.transpose(ops.scaled_dot_product_attention(heads, heads, heads, causal=False), [0, 2, 1, 3])
    results = [ops.shape_of(joined)] if read_twice else []
    flat = ops.reshape(joined, np.array([0, 0, 16]), special_zero=True)
    projected = ops.matmul(flat, ops.constant(np.ones((16, 16), np.float32)), False, False)
    projected.set_friendly_name("projection")
    after = ops.matmul(projected, ops.constant(np.ones((16, 16), np.float32)), False, False)
    return openvino.Model([after, *results], [heads])


@pytest.mark.parametrize("read_twice", [False, True])
def test_the_projection_behind_attention_is_found(read_twice: bool) -> None:
    assert behind_attention(attention(read_twice=read_twice)) == ["projection"]


def test_a_network_without_attention_has_none() -> None:
    openvino, ops = import_quietly("openvino"), import_quietly("openvino.opset13")
    given = ops.parameter([-1, 16], np.float32)
    weights = ops.constant(np.ones((16, 16), np.float32))
    assert behind_attention(openvino.Model([ops.matmul(given, weights, False, False)], [given])) == []


@pytest.mark.parametrize("best", [0.2, 0.5, 0.8])
def test_the_nearest_to_float32_is_kept(best: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Judged by inputs that were not learnt from; NaN is never near."""
    learnt: list[list[float]] = []

    def quantized(exact: Any, rows: list[np.ndarray[Any, Any]], smoothing: float) -> Any:
        learnt.append([float(row[0, 0]) for row in rows])
        return smoothing

    def answers(model: Any, rows: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
        judged.append([float(row[0, 0]) for row in rows])
        if model == "exact":
            return np.array([[1.0, 0.0]])
        return (
            np.array([[1.0, abs(model - best)]]) if model != (0.2 if best != 0.2 else 0.8) else np.array([[np.nan, 1]])
        )

    judged: list[list[float]] = []
    monkeypatch.setattr(quantization, "intermediate", lambda network, folder: "exact")
    monkeypatch.setattr(quantization, "_quantized", quantized)
    monkeypatch.setattr(quantization, "_answers", answers)
    network = TowerSpec("image", torch.nn.Identity(), "digest", torch.zeros(2, 1))
    rows = Calibration("numbers", lambda: (torch.full((1, 1), number) for number in range(8)))
    assert quantization.quantize(network, CompiledFolder(None), rows) == best
    assert learnt == [[1, 2, 3, 5, 6, 7]] * 3
    assert judged == [[0, 4]] * 4
