"""A group of rows: what a call costs, beside the bare parts of it, measured in the same rounds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from bench.figures import Target
from bench.measure import Results
from bench.stage import Stage

Say = Callable[[str], None]
Measure = Callable[[Stage, Results, Say], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table. `ours` and `bare` are names of figures in `Results.extra`."""

    what: str
    ours: str
    bare: str = ""
    parts: str = ""
    """The parts that `bare` consists of, in words."""
    unit: str = "ms"

    @property
    def digits(self) -> int:
        """The digits after the point that mean something."""
        return {"/s": 0, "": 4}.get(self.unit, 2)


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that are measured together: in turn, on one stage, which ends with it."""

    measure: Measure
    rows: Sequence[Row]
    targets: Sequence[Target] = ()
