"""The facts of a machine on which a figure depends: its cores, what its processor can do, and how busy it was."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from lensmesh_inference.devices import cpu_count

# Flags of /proc/cpuinfo, in the words that people use.
_FEATURES = {
    "avx2": "AVX2",
    "avx512f": "AVX512",
    "avx512_vnni": "AVX512-VNNI",
    "avx_vnni": "AVX-VNNI",
    "avx512_bf16": "AVX512-BF16",
    "amx_bf16": "AMX-BF16",
    "amx_int8": "AMX-INT8",
    "asimd": "NEON",
    "bf16": "BF16",
}
_PACKAGES = ("torch", "open_clip_torch", "openvino", "transformers", "grpcio", "pillow", "torchvision")


@dataclass(frozen=True, slots=True)
class Machine:
    """The state of one machine before a measurement."""

    cores: int
    features: tuple[str, ...]
    architecture: str
    python: str
    packages: dict[str, str]
    load_average: tuple[float, float, float]
    """Processes that wanted a core, over 1, 5 and 15 minutes: far below the cores on a quiet machine."""

    @property
    def title(self) -> str:
        """A short name, such as "2 cores (AVX2)"."""
        return f"{self.cores} cores ({', '.join(self.features) or self.architecture})"

    @property
    def has_bf16(self) -> bool:
        """True where the processor has instructions that multiply bfloat16."""
        return any("BF16" in feature for feature in self.features)


def this_machine() -> Machine:
    """Read the state of this machine."""
    path = Path("/proc/cpuinfo")
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", path.read_text() if path.exists() else "", re.MULTILINE)
    flags = set(found.group(1).split()) if found else set()
    return Machine(
        cores=cpu_count(),
        features=tuple(name for flag, name in _FEATURES.items() if flag in flags),
        architecture=platform.machine(),
        python=platform.python_version(),
        packages={name: number for name in _PACKAGES if (number := _version(name))},
        load_average=os.getloadavg(),
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
