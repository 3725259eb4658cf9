"""A measure of how near a backend's answers are to those of the same network in float32."""

from __future__ import annotations

from typing import Final

import numpy as np

from lensmesh_inference.backends.tower import Array

MIN_COSINE: Final = 0.9995
"""The least cosine of float32, bfloat16 and float16. Below it, something else is computed."""

MIN_COSINE_INT8: Final = 0.995
"""The least cosine of int8. Well calibrated models lie above 0.999, badly calibrated ones anywhere."""


def required(precision: str) -> float:
    """Return the lowest cosine that a precision may have."""
    return MIN_COSINE_INT8 if precision == "int8" else MIN_COSINE


def lowest_cosine(ours: Array, reference: Array) -> float:
    """Return the lowest cosine between rows of the same number. NaN in a row gives NaN."""
    mine, other = (rows.reshape(len(rows), -1).astype(np.float64) for rows in (ours, reference))
    lengths = np.linalg.norm(mine, axis=1) * np.linalg.norm(other, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(np.min((mine * other).sum(axis=1) / lengths))
