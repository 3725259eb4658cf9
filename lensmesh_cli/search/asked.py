"""The queries of a command line: what each of them is, its name and its weight."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lensmesh_cli.console import Exit, fail
from lensmesh_cli.printable import printable

if TYPE_CHECKING:
    from lensmesh_client import Query

# As SearchRequest.queries and GroupBy.fields of the contract.
MOST_QUERIES, MOST_FIELDS = 8, 4
TEXT, IMAGE, LIKE, WORDS, SAME, NOT = "text", "image", "like", "words", "same", "not"
# Kinds whose value is the path of an image.
FILES = (IMAGE, SAME)
# What `--not` finds loses as much as what `--text` finds gains.
WEIGHTS = {TEXT: 1.0, IMAGE: 1.0, LIKE: 1.0, WORDS: 1.0, SAME: 1.0, NOT: -1.0}


@dataclass(frozen=True, slots=True)
class AskedQuery:
    """A query, as the command line gives it."""

    name: str
    """Its option's, with a number from the second on: "text", "text2", "image"."""
    kind: str
    value: str
    """The text, the image's path, or the item's id."""
    weight: float

    @property
    def words(self) -> str:
        """The query as people read it."""
        if self.kind in (TEXT, WORDS, NOT):
            return f"“{printable(self.value)}”"
        return printable(Path(self.value).name if self.kind in FILES else f"item {self.value}")

    @property
    def weighed_words(self) -> str:
        """The query as people read it, and its weight where that is another than usual."""
        return self.words if self.weight == WEIGHTS[self.kind] else f"{self.words} (weight {self.weight:g})"

    @property
    def title(self) -> str:
        """The query as a sentence names it."""
        return {IMAGE: "like ", LIKE: "like ", WORDS: "words ", SAME: "the same as ", NOT: "not "}.get(
            self.kind, ""
        ) + self.weighed_words

    def for_client(self, content: bytes | None, text_fields: Sequence[str]) -> Query:
        """Return it for the client; `content` is the image's, and words are those of `text_fields`."""
        from lensmesh_client import Query

        return Query(
            self.value if self.kind in (TEXT, NOT) else None,
            content if self.kind in FILES else None,
            self.value if self.kind == LIKE else None,
            words=self.value if self.kind == WORDS else None,
            text_fields=text_fields if self.kind == WORDS else (),
            by_hash=self.kind == SAME,
            weight=self.weight,
            name=self.name,
        )

    def as_json(self) -> dict[str, object]:
        """Return it for programs."""
        return {"name": self.name, self.kind: self.value, "weight": self.weight}


def asked_queries(values: Mapping[str, Sequence[str | Path] | None], weights: Sequence[str]) -> list[AskedQuery]:
    """Return the queries of a command line: values by kind, and `--weight`s. End the command where they are wrong."""
    queries = [
        AskedQuery(f"{kind}{number}" if number > 1 else kind, kind, str(value), WEIGHTS[kind])
        for kind, each in values.items()
        for number, value in enumerate(each or (), 1)
    ]
    if not any(query.kind != NOT for query in queries):
        beside = " beside --not" if queries else ""
        fail(f"say what to find{beside}: TEXT, --text, --image, --same, --like or --words", Exit.USAGE)
    if len(queries) > MOST_QUERIES:
        fail(f"{len(queries)} queries were given: a search takes {MOST_QUERIES} at most", Exit.USAGE)
    if weights and len(queries) == 1:
        fail("--weight weighs queries against one another, and there is one only", Exit.USAGE)
    given = dict(_weight(text, [query.name for query in queries]) for text in weights)
    if len(given) < len(weights):
        fail("--weight names a query twice: give each one weight", Exit.USAGE)
    queries = [
        AskedQuery(query.name, query.kind, query.value, given.get(query.name, query.weight)) for query in queries
    ]
    if all(query.weight < 0 for query in queries):
        fail("all weights are below 0, and such queries only push away: give one above 0", Exit.USAGE)
    return queries


def _weight(text: str, names: Sequence[str]) -> tuple[str, float]:
    name, _, number = text.partition("=")
    if name not in names:
        fail(f"--weight {printable(text)}: write NAME=NUMBER; the names here are {', '.join(names)}", Exit.USAGE)
    try:
        weight = float(number)
    except ValueError:
        weight = math.nan
    if not math.isfinite(weight) or weight == 0:
        fail(
            f"--weight {printable(text)}: give a number above 0, below 0 to push away, or leave {name} out",
            Exit.USAGE,
        )
    return name, weight


def check_groups(fields: Sequence[str], size: int | None) -> None:
    """End the command where hits cannot be grouped so."""
    if size is not None and not fields:
        fail("--group-size says how many hits a group has: name its field by --group-by", Exit.USAGE)
    if len(fields) > MOST_FIELDS:
        fail(f"--group-by was given {len(fields)} times: {MOST_FIELDS} fields at most", Exit.USAGE)
    if len({*fields}) < len(fields):
        fail("--group-by names a field twice", Exit.USAGE)
