"""Towers in OpenVINO, on the CPU. They are exported from torch once, kept, and read again in a second."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import torch

from lensmesh_inference.backends.device_errors import classify
from lensmesh_inference.backends.folder import CompiledFolder
from lensmesh_inference.backends.openvino_import import import_quietly
from lensmesh_inference.backends.tower import Array, Placement, TowerSpec
from lensmesh_inference.backends.versions import versions
from lensmesh_inference.devices import cpu_has_bfloat16
from lensmesh_inference.digest import Json

_HINTS: Final = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
# Raised when what is written changes without a change of the key's other parts.
_FORMAT: Final = 1
_MODEL: Final = "model.xml"
_log = logging.getLogger(__name__)


class NotConvertible(Exception):  # noqa: N818 - said of a network
    """OpenVINO cannot convert this network."""


class OpenVinoTower:
    """A compiled model and one request to it."""

    backend = "openvino"

    def __init__(self, name: str, precision: str, request: Any) -> None:
        self.name = name
        self.precision = precision
        self._request = request

    def run(self, batch: torch.Tensor) -> Array:
        with classify():
            outputs = self._request.infer([batch.contiguous().numpy()], share_inputs=True)
        output: Array = outputs[0]
        return output


def open_openvino(
    spec: TowerSpec, precision: str, places: Sequence[Placement], folder: CompiledFolder
) -> list[OpenVinoTower]:
    """Open the tower in "float32", "bfloat16" or "float16", for each place. Raises ``NotConvertible``."""
    return compile_model(spec.name, precision, intermediate(spec, folder), places)


def compile_model(name: str, precision: str, model: Any, places: Sequence[Placement]) -> list[OpenVinoTower]:
    """Compile an OpenVINO model for this machine's CPU, once, with a request for each place. So weights are shared."""
    openvino = import_quietly("openvino")
    # What int8 leaves over is computed in the best that the hardware has.
    rest = ("bfloat16" if cpu_has_bfloat16() else "float32") if precision == "int8" else precision
    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": _HINTS[rest],
        "NUM_STREAMS": len(places),
        "INFERENCE_NUM_THREADS": sum(place.threads for place in places),
        # Pinned threads of two services would sit on the same cores.
        "ENABLE_CPU_PINNING": False,
    }
    compiled = openvino.Core().compile_model(model, "CPU", options)
    return [OpenVinoTower(name, precision, compiled.create_infer_request()) for _ in places]


def intermediate(spec: TowerSpec, folder: CompiledFolder) -> Any:
    """Return the network as an OpenVINO model in float32, from the folder if it is there."""
    return read_model(folder, f"{spec.name}-openvino", key_of(spec), lambda: convert(spec))


def key_of(spec: TowerSpec) -> dict[str, Json]:
    """Return everything that an OpenVINO model made from a network depends on."""
    return {
        "format": _FORMAT,
        "network": spec.digest,
        "tower": spec.name,
        "longest": spec.longest,
        "versions": versions("torch", "openvino"),
    }


def read_model(folder: CompiledFolder, kind: str, key: Json, make: Callable[[], Any]) -> Any:
    """Return an OpenVINO model by its key. If it is not kept yet, `make()` makes it, and it is saved and read."""
    openvino = import_quietly("openvino")

    def write(into: Path) -> None:
        openvino.save_model(make(), into / _MODEL, compress_to_fp16=False)

    if not folder.keeps:
        return make()
    entry = folder.entry(kind, key, write)
    try:
        return openvino.Core().read_model(entry.path / _MODEL)
    finally:
        entry.close()


def convert(spec: TowerSpec) -> Any:
    """Trace a network and translate it, which takes ten seconds and more. Raises ``NotConvertible``."""
    openvino = import_quietly("openvino")
    began = time.monotonic()
    free: dict[int, Any] = {0: torch.export.Dim("batch", min=1, max=1 << 16)}
    example = spec.example[:2]
    if spec.longest:
        # torch would trace the full length as a case of its own. The graph is the same, and OpenVINO holds nobody to
        # the range: parity is checked at full length, too.
        free[1] = torch.export.Dim("length", min=2, max=spec.longest - 1)
        example = example[:, : spec.longest - 1]
    try:
        with torch.no_grad():
            exported = torch.export.export(spec.module, (example,), dynamic_shapes=(free,))
        model = openvino.convert_model(exported)
    except Exception as error:
        # Whatever the tracer or the translator stumble over.
        raise NotConvertible(f"{type(error).__name__}: {str(error)[:300]}") from error
    _log.info("the %s tower was converted for OpenVINO in %.1f s", spec.name, time.monotonic() - began)
    return model
