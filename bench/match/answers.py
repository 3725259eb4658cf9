"""Answers of a system that matches, and what they are worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

FALSE_ACCEPTS: Final = 0.001
"""The share of strangers that may be taken for an entry."""


@dataclass(frozen=True, slots=True)
class Query:
    """An image to be matched."""

    content: bytes
    alteration: str
    entry: int | None
    """Position of its entry; None of a stranger."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The entry that a system takes an image for."""

    entry: int | None
    confidence: float
    """The number by which answers are accepted; each system has its own."""
    seconds: float
    accepted: bool | None = None
    """True where the system itself calls it a match, None where it leaves that to others."""
    candidates: Sequence[int] = ()
    """The entries that were looked at, the most likely first, where they are known."""


class Matcher(Protocol):
    """A system that matches images with entries."""

    name: str

    def match(self, content: bytes) -> Answer:
        """Tell which entry a JPEG file shows."""
        ...


@dataclass(frozen=True, slots=True)
class Figures:
    """What some answers are worth."""

    queries: int
    recall: float
    """Share of queries whose best entry is the right one."""
    recall_at_threshold: float
    """Share of queries that are accepted with the right entry, at `FALSE_ACCEPTS` of strangers."""
    accepted: float
    """Share that the system itself calls a match, with the right entry."""
    wrong: float
    """Share that the system itself calls a match with another entry than the right one."""


def threshold(strangers: Sequence[Answer]) -> float:
    """Return the number that a confidence must exceed, so that no more strangers pass than may."""
    known = sorted((one.confidence for one in strangers if one.entry is not None), reverse=True)
    allowed = int(FALSE_ACCEPTS * len(strangers))
    return known[allowed] if len(known) > allowed else -np.inf


def accepts(strangers: Sequence[Answer]) -> float:
    """Return the share of strangers that the system itself calls a match."""
    return float(np.mean([bool(one.accepted) for one in strangers]))


def figures(queries: Sequence[Query], answers: Sequence[Answer], least: float) -> Figures:
    """Compute what the answers to queries with an entry are worth. `least` is a threshold."""
    right = np.array([one.entry == query.entry for query, one in zip(queries, answers, strict=True)])
    above = np.array([one.confidence > least for one in answers])
    taken = np.array([bool(one.accepted) for one in answers])
    shares = [float(np.mean(each)) for each in (right, right & above, right & taken, taken & ~right)]
    return Figures(len(queries), *shares)


def p50_ms(answers: Sequence[Answer]) -> float:
    """Return the median of the times, in milliseconds."""
    return 1000 * float(np.median([one.seconds for one in answers]))
