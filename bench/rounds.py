"""Rounds in which every part of a comparison is measured once, in another order each time."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from bench.measure import Results, Spread
from bench.worker import WorkerError

Part: TypeAlias = Callable[[], Awaitable[Mapping[str, float]]]


async def in_rounds(parts: Mapping[str, Part], results: Results, *, rounds: int, say: Callable[[str], None]) -> None:
    """Append what each part measures to `results.extra`, one figure for each round.

    A part that fails is listed as missing, and the others go on without it.
    """
    left = dict(parts)
    for number in range(rounds):
        for name in random.Random(number).sample(sorted(left), len(left)):
            try:
                found = await left[name]()
            except WorkerError as error:
                results.missing[name] = str(error)
                del left[name]
                say(f"{name}: {error}")
                continue
            for key, value in found.items():
                results.extra.setdefault(key, []).append(value)
            figures = ", ".join(f"{key} {value:.3f}" for key, value in found.items())
            say(f"round {number + 1} of {rounds}: {name}: {figures}")


def times(key: str, base: str) -> Callable[[Results], Spread | None]:
    """Return a function that divides one figure by another, round by round."""

    def measure(results: Results) -> Spread | None:
        pairs = list(zip(results.extra.get(key, ()), results.extra.get(base, ()), strict=False))
        return Spread.of([one / other for one, other in pairs]) if pairs else None

    return measure
