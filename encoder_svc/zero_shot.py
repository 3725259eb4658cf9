"""Probabilities of labels, from vectors of images and of labels. This module imports neither gRPC nor protobuf."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from encoder_svc.label_vectors import unit_rows
from encoder_svc.model import LogitScale, Scoring, Vector

Places: TypeAlias = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Scores:
    """Probabilities of shape (images, labels), and for the best of each image their places, best first."""

    probabilities: Vector
    best: Places | None


def score(images: Vector, labels: Vector, scale: LogitScale, top: int = 0) -> Scores:
    """Return the probabilities of all labels for each image; with `top`, also which are the best.

    `images` has shape (n, d) and any lengths, `labels` has shape (m, d) and unit length. Of equal scores the first
    label comes first. Finite vectors give finite probabilities.
    """
    logits = np.float32(scale.factor) * (unit_rows(images) @ labels.T) + np.float32(scale.bias or 0)
    best = np.stack([_best(row, top) for row in logits]) if top else None
    return Scores(_softmax(logits) if scale.scoring is Scoring.SOFTMAX else _sigmoid(logits), best)


def _best(row: Vector, top: int) -> Places:
    """Return the places of the largest numbers, the largest first; of equal ones the first comes first."""
    places = np.arange(len(row))
    if top < len(row):
        # All that are at least as large as the last of the best: few are sorted then, not thousands.
        places = np.flatnonzero(row >= np.partition(row, len(row) - top)[len(row) - top])
    order: Places = places[np.argsort(-row[places], kind="stable")][:top]
    return order


def _softmax(logits: Vector) -> Vector:
    # Less the largest of each row: what is raised is at most 1, and no sum is 0 or too large.
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: Vector = powers / powers.sum(axis=1, keepdims=True)
    return probabilities


def _sigmoid(logits: Vector) -> Vector:
    # 1 / (1 + exp(-x)), without overflow for a score that is far below zero.
    probabilities: Vector = np.exp(-np.logaddexp(np.float32(0), -logits))
    return probabilities
