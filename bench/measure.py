"""Measurement of cases in turn.

Each round measures every case once, in its own order, so that a busy moment favours none.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from bench.worker import WorkerError
from lensmesh_cli.load.figures import LoadFigures


@dataclass(frozen=True, slots=True)
class Spread:
    """The smallest, median and largest value of some rounds."""

    min: float
    median: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Compute the spread of at least one value."""
        return cls(min(values), statistics.median(values), max(values))

    def __format__(self, form: str) -> str:
        return f"{self.min:{form}} / {self.median:{form}} / {self.max:{form}}"


@dataclass(frozen=True, slots=True)
class Case:
    """A thing to measure. `measure` takes seconds to count and seconds to warm up."""

    key: str
    title: str
    measure: Callable[[float, float], Awaitable[LoadFigures]]


@dataclass(slots=True)
class Results:
    """The figures of every case, one for each round, and the reasons why others could not be measured."""

    titles: dict[str, str] = field(default_factory=dict)
    rounds: dict[str, list[LoadFigures]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    extra: dict[str, list[float]] = field(default_factory=dict)
    """Figures that are no rate, by name, one for each round."""

    def rates(self, key: str) -> Spread | None:
        """Return the items a second; None where the case was not measured."""
        return Spread.of([one.rate for one in self.rounds[key]]) if self.rounds.get(key) else None

    def ratio(self, key: str, base: str) -> Spread | None:
        """Return how many times the base's rate a case has, round by round.

        Both rates of a round met the same machine.
        """
        pairs = zip(self.rounds.get(key, ()), self.rounds.get(base, ()), strict=False)
        values = [one.rate / other.rate for one, other in pairs if other.rate]
        return Spread.of(values) if values else None

    def latency(self, key: str, name: str) -> Spread | None:
        """Return one percentile of the calls, in milliseconds."""
        found = [getattr(one.latency_ms, name) for one in self.rounds.get(key, ()) if one.latency_ms is not None]
        return Spread.of(found) if found else None


async def in_turn(
    cases: Sequence[Case],
    *,
    rounds: int,
    seconds: float,
    warm: float,
    say: Callable[[str], None],
    into: Results | None = None,
) -> Results:
    """Measure each case once a round. A case that fails is listed as missing, and the others go on without it."""
    results = Results() if into is None else into
    left = {case.key: case for case in cases}
    results.titles |= {case.key: case.title for case in cases}
    for number in range(rounds):
        for key in random.Random(number).sample(sorted(left), len(left)):
            try:
                figures = await left[key].measure(seconds, warm)
            except WorkerError as error:
                results.missing[key] = str(error)
                results.rounds.pop(key, None)
                del left[key]
                say(f"{key}: {error}")
                continue
            results.rounds.setdefault(key, []).append(figures)
            say(f"round {number + 1} of {rounds}: {line(key, figures)}")
    return results


def line(key: str, figures: LoadFigures) -> str:
    """Describe one measurement in one line."""
    parts = [f"{key:24} {figures.rate:9.2f}/s"]
    if figures.latency_ms:
        parts.append(f"p50 {figures.latency_ms.p50:.1f} ms, p99 {figures.latency_ms.p99:.1f} ms")
    if figures.split_ms:
        split = figures.split_ms
        parts.append(
            f"batch {split.batch:.1f}: decode {split.decode:.1f}, queue {split.queue:.0f}, forward {split.forward:.0f}"
        )
    if figures.errors:
        parts.append(", ".join(f"{count} {reason}" for reason, count in figures.errors.items()))
    if figures.cached:
        parts.append(f"{figures.cached} from a cache")
    return "; ".join(parts)


def read_figures(found: Mapping[str, object]) -> LoadFigures:
    """Read the figures that a worker returned."""
    from pydantic import TypeAdapter

    return TypeAdapter(LoadFigures).validate_python(found)
