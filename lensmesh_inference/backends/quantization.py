"""int8: post-training quantization by nncf, on inputs like those to come.

A model is made once, and kept like any other.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch

from lensmesh_inference.backends.folder import CompiledFolder
from lensmesh_inference.backends.openvino_import import import_quietly
from lensmesh_inference.backends.openvino_tower import OpenVinoTower, compile_model, intermediate, key_of, read_model
from lensmesh_inference.backends.parity import lowest_cosine
from lensmesh_inference.backends.tower import Array, Placement, TowerSpec
from lensmesh_inference.backends.versions import versions

RECIPE: Final = 2
"""A version. Raise it whenever the same network and the same calibration are quantized to other numbers."""

# SmoothQuant's alpha (Xiao et al., arXiv:2211.10438): how much of what makes activations hard to round is moved into
# the weights. The best differs by model, and nncf's own 0.95 is far from it for image towers.
_SMOOTHINGS: Final = (0.2, 0.5, 0.8)
# One calibration input in so many is not learnt from: by these the smoothings are compared.
_HELD_OUT: Final = 4
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Calibration:
    """The inputs from which ranges of numbers are learnt.

    `name` identifies the inputs: equal names mean equal inputs. `inputs` yields them one by one, as batches of one row.
    """

    name: str
    inputs: Callable[[], Iterable[torch.Tensor]]


def open_int8(
    spec: TowerSpec, places: Sequence[Placement], folder: CompiledFolder, calibration: Calibration
) -> list[OpenVinoTower]:
    """Open the network with int8 weights and activations where that is worth it, in float32 or bfloat16 elsewhere."""
    key = {**key_of(spec), "quantized": calibration.name, "recipe": RECIPE, "nncf": versions("nncf")}
    model = read_model(folder, f"{spec.name}-int8", key, lambda: quantize(spec, folder, calibration))
    return compile_model(spec.name, "int8", model, places)


def quantize(spec: TowerSpec, folder: CompiledFolder, calibration: Calibration) -> Any:
    """Make several quantized OpenVINO models, and return the nearest to float32. Takes minutes for a large network."""
    began = time.monotonic()
    exact = intermediate(spec, folder)
    rows = [row.numpy() for row in calibration.inputs()]
    learnt, held_out = [row for number, row in enumerate(rows) if number % _HELD_OUT], rows[::_HELD_OUT]
    _log.info("the %s tower is quantized with %d inputs (%s)", spec.name, len(rows), calibration.name)
    expected = _answers(exact, held_out)
    cosines: dict[float, float] = {}
    models = {}
    for smoothing in _SMOOTHINGS:
        models[smoothing] = _quantized(exact, learnt, smoothing)
        cosines[smoothing] = lowest_cosine(_answers(models[smoothing], held_out), expected)
        _log.info("smoothed by %g, the lowest cosine to float32 is %.5f", smoothing, cosines[smoothing])
    _log.info("the %s tower was quantized in %.0f s", spec.name, time.monotonic() - began)
    return models[max(cosines, key=lambda one: (not math.isnan(cosines[one]), cosines[one]))]


def _quantized(exact: Any, learnt: Sequence[Array], smoothing: float) -> Any:
    nncf = import_quietly("nncf")
    advanced = nncf.AdvancedQuantizationParameters(
        smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters(convolution=-1, matmul=smoothing),
        # Weights of seven bits: without VNNI's instructions, sums of products of two full bytes overflow.
        overflow_fix=nncf.OverflowFix.ENABLE,
    )
    return nncf.quantize(
        exact.clone(),
        nncf.Dataset(learnt),
        model_type=nncf.ModelType.TRANSFORMER,
        preset=nncf.QuantizationPreset.PERFORMANCE,
        subset_size=len(learnt),
        ignored_scope=nncf.IgnoredScope(names=behind_attention(exact)),
        advanced_parameters=advanced,
    )


def behind_attention(model: Any) -> list[str]:
    """Return the names of the projections that take attention's output.

    They are a twelfth of a transformer's work, and most of its loss. What attention averages has a far smaller range
    than its rarest values, by which int8 would be scaled.
    """
    names = []
    for operation in model.get_ops():
        if operation.get_type_name() == "ScaledDotProductAttention":
            ahead = operation
            while ahead is not None and ahead.get_type_name() != "MatMul":
                targets = [target.get_node() for target in ahead.output(0).get_target_inputs()]
                readers = [target for target in targets if target.get_type_name() != "ShapeOf"]
                ahead = readers[0] if len(readers) == 1 else None
            if ahead is not None:
                names.append(ahead.get_friendly_name())
    return names


def _answers(model: Any, rows: Sequence[Array]) -> Array:
    compiled = import_quietly("openvino").Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.concatenate([compiled([row])[0] for row in rows])
