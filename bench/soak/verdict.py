"""The verdict whether something grew: the end of the run compared with its beginning after the warm-up."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.soak.samples import Sample

WARM_UP_S = 60.0


@dataclass(frozen=True, slots=True)
class Tolerance:
    """The growth that is allowed: a share of the first value, and a fixed amount."""

    share: float
    more: float

    def allows(self, begin: float, end: float) -> bool:
        """Tell whether the change is within the allowed growth."""
        return end <= begin * (1 + self.share) + self.more

    def __str__(self) -> str:
        return f"{self.share:.0%} + {self.more:g}"


# Memory: the C library keeps what large messages took, now more and now less; the Router's moves by 40 MiB within
# a minute. Threads: pools start theirs when they are first all busy.
TOLERANCES = {
    "memory_mib": Tolerance(0.05, 24),
    "threads": Tolerance(0, 2),
    "tasks": Tolerance(0.06, 6),
    "descriptors": Tolerance(0.06, 5),
}


# How many of these there are follows how many calls run at the moment. What nobody ends shows when few do, which is
# seldom: they are judged by halves of the time, the others by the first and the last fifth. What grows steadily grows
# five eighths as much from half to half, and may grow by so much less.
AT_LEAST = {"tasks", "descriptors"}


@dataclass(frozen=True, slots=True)
class Grown:
    """A quantity of one service at the beginning and the end, and its largest value.

    Values are medians of fifths of the time; for tasks and descriptors the least of halves.
    """

    service: str
    quantity: str
    begin: float
    end: float
    most: float
    tolerance: str
    fine: bool


def warm_up_s(seconds: float) -> float:
    """Return the seconds of warm-up: a minute, but at most a third of the run."""
    return min(WARM_UP_S, seconds / 3)


def judge(
    samples: Mapping[str, Sequence[Sample]],
    seconds: float,
    tolerances: Mapping[str, Tolerance] = TOLERANCES,
) -> list[Grown]:
    """Judge every quantity of every service. Raises ``ValueError`` where there are too few samples to judge."""
    rows = []
    for service, all_of_it in samples.items():
        later = [sample for sample in all_of_it if sample.at_s >= warm_up_s(seconds)]
        if len(later) < 5:
            raise ValueError(f"{len(later)} samples of {service} after the warm-up are too few: five at least")
        for quantity, tolerance in tolerances.items():
            values = [float(getattr(sample, quantity)) for sample in later]
            typical, parts = (min, 2) if quantity in AT_LEAST else (statistics.median, 5)
            count = len(values) // parts
            begin, end = typical(values[:count]), typical(values[-count:])
            fine = tolerance.allows(begin, end)
            rows.append(Grown(service, quantity, begin, end, max(values), str(tolerance), fine))
    return rows
