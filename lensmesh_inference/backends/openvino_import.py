"""The import of OpenVINO and nncf without their telemetry.

Both bring `openvino_telemetry`, which sends usage to a web analytics service as soon as they are imported, unless a
person has declined before. It is optional to both: a module that cannot be imported sends nothing.
"""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec
from typing import Any

_TELEMETRY = "openvino_telemetry"


def installed() -> bool:
    """Tell whether OpenVINO is installed."""
    return find_spec("openvino") is not None


def import_quietly(package: str) -> Any:
    """Import `openvino` or `nncf` without telemetry."""
    # None is how Python is told that a module is not there. It stays, for what is imported later.
    if sys.modules.get(_TELEMETRY) is None:
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
    return importlib.import_module(package)
