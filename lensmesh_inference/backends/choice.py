"""The choice of backend and precision for a tower: as requested, or by measurement."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch

from lensmesh_chassis.errors import LensmeshError, PreconditionFailed
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.backends import openvino_import, torch_backend
from lensmesh_inference.backends.folder import CompiledFolder
from lensmesh_inference.backends.parity import MIN_COSINE, lowest_cosine
from lensmesh_inference.backends.tower import Placement, Tower, TowerSpec
from lensmesh_inference.backends.versions import versions
from lensmesh_inference.devices import cpu_has_bfloat16, describe_device
from lensmesh_inference.digest import Json

if TYPE_CHECKING:
    from lensmesh_inference.backends.quantization import Calibration

_LEAST_ROUNDS: Final = 3
# And more, for as long: what takes milliseconds is the sooner disturbed by other work.
_ROUNDS_S: Final = 2.0
_MOST_ROUNDS: Final = 20
# Converting takes ten seconds or more at the first start: a network of fewer numbers is computed before that pays.
_WORTH_CONVERTING: Final = 5_000_000
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Candidate:
    """A way to compute a tower."""

    backend: str
    precision: str

    def __str__(self) -> str:
        return f"{self.backend} {self.precision}"


def open_towers(
    spec: TowerSpec,
    backend: str,
    precision: str,
    places: Sequence[Placement],
    folder: CompiledFolder,
    calibration: Calibration | None = None,
) -> list[Tower]:
    """Open a network's towers, one for each place. Those on devices of one kind are computed alike. Blocks for seconds.

    `backend` is "auto", "torch" or "openvino"; `precision` is "auto" or one of the settings' values; "int8" needs a
    `calibration`. What is "auto" is decided on the first place, by a few forward passes of the network's example, and
    remembered. Raises ``PreconditionFailed`` for something requested by name that is not possible.
    """
    if precision == "int8":
        return _open_int8(spec, backend, places, folder, calibration)
    towers: dict[Placement, list[Tower]] = {}
    for kind in dict.fromkeys(place.device.type for place in places):
        alike = [place for place in places if place.device.type == kind]
        for place, tower in zip(alike, _open_alike(spec, backend, precision, alike, folder), strict=True):
            towers.setdefault(place, []).append(tower)
    return [towers[place].pop(0) for place in places]


def _open_alike(
    spec: TowerSpec, backend: str, precision: str, places: Sequence[Placement], folder: CompiledFolder
) -> list[Tower]:
    candidates = possible(backend, precision, [place.device for place in places])
    if backend == "auto" and sum(weight.numel() for weight in spec.module.parameters()) < _WORTH_CONVERTING:
        candidates = [one for one in candidates if one.backend == "torch"]
    if len(candidates) == 1:
        return _open_named(spec, candidates[0], places, folder)
    return _open(spec, _choose(spec, candidates, places[0], folder), places, folder)


def possible(backend: str, precision: str, devices: Sequence[torch.device]) -> list[Candidate]:
    """Return the candidates for devices of one kind within what was requested, the likeliest winner first."""
    if devices[0].type == "cuda":
        if backend == "openvino":
            raise _refused("backend", "openvino computes on CPUs only: set the device to cpu, or the backend to torch.")
        backends = ["torch"]
        newest = min(torch.cuda.get_device_capability(device) for device in devices) >= (8, 0)
        numbers = ["bfloat16" if newest else "float16", "float32"] if precision == "auto" else [precision]
    else:
        if backend == "openvino" and not openvino_import.installed():
            raise _refused("backend", "openvino is not installed: install lensmesh[openvino], or set it to auto.")
        backends = ["openvino", "torch"] if openvino_import.installed() else ["torch"]
        # Emulated, bfloat16 is hundreds of times slower than float32.
        numbers = ["bfloat16", "float32"] if cpu_has_bfloat16() else ["float32"]
        numbers = numbers if precision == "auto" else [precision]
    backends = backends if backend == "auto" else [backend]
    return [Candidate(one, number) for number in numbers for one in backends]


def _open(
    spec: TowerSpec, candidate: Candidate, places: Sequence[Placement], folder: CompiledFolder, *, trial: bool = False
) -> list[Tower]:
    if candidate.backend == "torch":
        return [*torch_backend.open_torch(spec, candidate.precision, places, record=not trial)]
    # Imported here: it is an extra.
    from lensmesh_inference.backends.openvino_tower import open_openvino

    return [*open_openvino(spec, candidate.precision, places, folder)]


def _open_named(
    spec: TowerSpec, candidate: Candidate, places: Sequence[Placement], folder: CompiledFolder
) -> list[Tower]:
    try:
        return _open(spec, candidate, places, folder)
    except Exception as error:
        raise _refused(
            "backend", f"the {spec.name} tower cannot be computed by {candidate}: {error}. Set it to auto or torch."
        ) from error


def _open_int8(
    spec: TowerSpec, backend: str, places: Sequence[Placement], folder: CompiledFolder, calibration: Calibration | None
) -> list[Tower]:
    if calibration is None:
        raise _refused("precision", f"int8 is not offered for the {spec.name} tower: set precision to auto.")
    if any(place.device.type != "cpu" for place in places) or backend == "torch":
        raise _refused("precision", "int8 is computed by openvino on CPUs only: set device cpu and backend openvino.")
    if not (openvino_import.installed() and find_spec("nncf")):
        raise _refused("precision", "int8 needs openvino and nncf: install lensmesh[openvino].")
    # Imported here: it is an extra.
    from lensmesh_inference.backends.quantization import open_int8

    try:
        return [*open_int8(spec, places, folder, calibration)]
    except LensmeshError:
        raise
    except Exception as error:
        message = f"the {spec.name} tower cannot be quantized: {str(error)[:300]}. Set precision to auto."
        raise _refused("precision", message) from error


def _choose(spec: TowerSpec, candidates: Sequence[Candidate], place: Placement, folder: CompiledFolder) -> Candidate:
    key: Json = {
        "format": 2,
        "network": spec.digest,
        "tower": spec.name,
        "example": list(spec.example.shape),
        "candidates": [str(one) for one in candidates],
        "device": describe_device(place.device).name,
        "threads": place.threads,
        "versions": versions("torch", "openvino"),
    }
    measured: list[Candidate] = []

    def measure(into: Path) -> None:
        measured.append(_measure(spec, candidates, place, folder))
        (into / "choice.json").write_text(json.dumps(asdict(measured[0])))

    entry = folder.entry(f"{spec.name}-choice", key, measure)
    try:
        chosen = measured[0] if measured else Candidate(**json.loads((entry.path / "choice.json").read_text()))
    finally:
        entry.close()
    if entry.reused:
        _log.info("%s tower: %s, as measured at an earlier start", spec.name, chosen)
    return chosen


def _measure(spec: TowerSpec, candidates: Sequence[Candidate], place: Placement, folder: CompiledFolder) -> Candidate:
    with torch.inference_mode():
        reference = spec.module(spec.example).numpy()
    towers: dict[Candidate, Tower] = {}
    cosines: dict[Candidate, float] = {}
    for candidate in candidates:
        try:
            (tower,) = _open(spec, candidate, [place], folder, trial=True)
            cosines[candidate] = lowest_cosine(tower.run(spec.example), reference)
        except Exception as error:  # noqa: BLE001 - a backend that cannot is no candidate, whatever it raised
            _log.warning("%s tower: %s cannot be used: %s", spec.name, candidate, error)
            continue
        if cosines[candidate] >= MIN_COSINE:
            towers[candidate] = tower
        else:
            _log.warning(
                "%s tower: %s is not used, its cosine to float32 is %.5f", spec.name, candidate, cosines[candidate]
            )
    if not towers:
        said = ", ".join(map(str, candidates))
        raise _refused("precision", f"the {spec.name} tower comes out wrong by {said}: set precision to float32.")
    # Somebody who waits asks for one, bulk for many: as good for both as can be.
    rows = len(spec.example)
    alone, together = _fastest(towers, spec.example[:1]), _fastest(towers, spec.example)
    chosen = min(towers, key=lambda one: alone[one] * together[one])
    said = ", ".join(
        f"{one} {1 / alone[one]:.4g}/s and {rows / together[one]:.4g}/s (cosine {cosines[one]:.5f})" for one in towers
    )
    _log.info("%s tower: %s, by measurement one by one and in batches of %d: %s", spec.name, chosen, rows, said)
    return chosen


def _fastest(towers: Mapping[Candidate, Tower], batch: torch.Tensor) -> dict[Candidate, float]:
    """Return the seconds of each candidate's fastest forward pass.

    They take turns: other work only ever makes one slower.
    """
    seconds = dict.fromkeys(towers, math.inf)
    end = time.perf_counter() + _ROUNDS_S
    for number in range(_MOST_ROUNDS):
        if number >= _LEAST_ROUNDS and time.perf_counter() > end:
            break
        for candidate, tower in towers.items():
            began = time.perf_counter()
            tower.run(batch)
            seconds[candidate] = min(seconds[candidate], time.perf_counter() - began)
    return seconds


def _refused(field: str, message: str) -> PreconditionFailed:
    return PreconditionFailed(Reason.OPTION_INVALID, message, field=field)
