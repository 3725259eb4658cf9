"""Figures of answers as tables in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bench.match.alterations import NAMES
from bench.match.answers import Answer, Query, accepts, figures, p50_ms, threshold

CANDIDATES: Final = (1, 20, 50, 100)


@dataclass(frozen=True, slots=True)
class Asked:
    """The answers of one system to all queries and to all strangers."""

    system: str
    queries: Sequence[Query]
    answers: Sequence[Answer]
    strangers: Sequence[Answer]


def recall_table(asked: Sequence[Asked], photographs: int) -> str:
    """Return recall and false accepts of each system, by alteration, and of the pieces of photographs alone."""
    rows = [
        "| system | queries | of | recall@1 | at 0.1 % false accepts | MATCH by default | MATCH with a wrong entry |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in asked:
        least = threshold(one.strangers)
        chosen = [
            (name, [number for number, query in enumerate(one.queries) if query.alteration == name]) for name in NAMES
        ]
        pieces = [number for number, query in enumerate(one.queries) if (query.entry or 0) < photographs]
        for name, some in [*chosen, ("of photographs, all alterations", pieces)]:
            if some:
                known = figures([one.queries[n] for n in some], [one.answers[n] for n in some], least)
                own = [
                    f"{share:.3f}" if one.answers[0].accepted is not None else "-"
                    for share in (known.accepted, known.wrong)
                ]
                cells = [
                    one.system,
                    name,
                    str(known.queries),
                    f"{known.recall:.3f}",
                    f"{known.recall_at_threshold:.3f}",
                ]
                rows.append(f"| {' | '.join([*cells, *own])} |")
    for one in asked:
        least = threshold(one.strangers)
        said = f"{one.system}: {len(one.strangers)} strangers, 0.1 % of them above {least:.4g}"
        if one.answers[0].accepted is not None:
            said += f"; called a MATCH by default: {accepts(one.strangers):.4f}"
        rows += ["", said]
    return "\n".join(rows)


def candidates_table(queries: Sequence[Query], nearest: Sequence[Sequence[int]]) -> str:
    """Return how often the right entry is among the nearest by vector, by alteration."""
    rows = [f"| nearest by vector | {' | '.join(f'recall@{count}' for count in CANDIDATES)} |"]
    rows.append("|---|" + "---|" * len(CANDIDATES))
    for name in NAMES:
        some = [(query.entry, found) for query, found in zip(queries, nearest, strict=True) if query.alteration == name]
        shares = [sum(entry in found[:count] for entry, found in some) / max(1, len(some)) for count in CANDIDATES]
        rows.append(f"| {name} | {' | '.join(f'{share:.3f}' for share in shares)} |")
    return "\n".join(rows)


def speed_table(times: Mapping[str, Mapping[int, Sequence[Answer]]], base: str) -> str:
    """Return the median milliseconds of a query by system and count of entries, and how many of `base`'s that is."""
    sizes = sorted({size for known in times.values() for size in known})
    rows = [f"| p50, ms a query | {' | '.join(f'{size:,} entries' for size in sizes)} |", "|---|" + "---|" * len(sizes)]
    for system, known in times.items():
        cells = []
        for size in sizes:
            mean = p50_ms(known[size])
            of_base = mean / p50_ms(times[base][size])
            cells.append(f"{mean:,.1f}" + ("" if system == base else f" ({of_base:.1f} x)"))
        rows.append(f"| {system} | {' | '.join(cells)} |")
    return "\n".join(rows)
