"""int8: post-training quantization by nncf, on inputs that look like those to come. Made once, kept like any model."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from lensmesh_inference.backends.folder import CompiledFolder
from lensmesh_inference.backends.openvino_tower import OpenVinoTower, compile_model, intermediate, key_of, read_model
from lensmesh_inference.backends.quiet import import_quietly
from lensmesh_inference.backends.tower import Network, Place
from lensmesh_inference.backends.versions import versions

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Calibration:
    """What ranges of numbers are learnt from.

    `name` tells the inputs: equal names, equal inputs. `inputs` gives them one by one, as batches of one row.
    """

    name: str
    inputs: Callable[[], Iterable[torch.Tensor]]


def open_int8(
    network: Network, places: Sequence[Place], folder: CompiledFolder, calibration: Calibration
) -> list[OpenVinoTower]:
    """The network with int8 weights and activations where that is worth it, float32 or bfloat16 elsewhere."""
    key = {**key_of(network), "quantized": calibration.name, "nncf": versions("nncf")}
    model = read_model(folder, f"{network.name}-int8", key, lambda: quantize(network, folder, calibration))
    return compile_model(network.name, "int8", model, places)


def quantize(network: Network, folder: CompiledFolder, calibration: Calibration) -> Any:
    """A quantized OpenVINO model. Takes minutes for a large network."""
    nncf = import_quietly("nncf")
    began = time.monotonic()
    inputs = [row.numpy() for row in calibration.inputs()]
    _log.info("the %s tower is quantized with %d inputs (%s)", network.name, len(inputs), calibration.name)
    model = nncf.quantize(
        intermediate(network, folder),
        nncf.Dataset(inputs),
        model_type=nncf.ModelType.TRANSFORMER,
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(inputs),
    )
    _log.info("the %s tower was quantized in %.0f s", network.name, time.monotonic() - began)
    return model
