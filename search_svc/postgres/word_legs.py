"""Search of PostgreSQL by words: by the index on them, ranked as `WordRanking` says, by the same numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from search_svc.legs import WordsLeg
from search_svc.model import Collection
from search_svc.postgres.predicates import Parameters, by_values
from search_svc.postgres.step_conditions import StepConditions
from search_svc.postgres.tables import items_table
from search_svc.postgres.words import all_query, term_query, words_query
from search_svc.words.ranking import ADJACENT, BY_STEM, EXACT, LONG, OPTIONAL, WordLookup, WordRanking

MAX_RANKED = 20_000
"""Items that hold all words and are ranked: the first of them, where there are more."""
MAX_RANKED_LATER = 5_000
"""The same of those that hold some of the words."""
# Items of one word may be looked up apart from those of another, for so many words.
_MOST_LOOKED_UP = 8
# What is ranked where a look ends early is always the same: neither does a scan begin where another one is, nor do
# several processes share it.
_IN_ORDER = (
    "SELECT set_config('synchronize_seqscans', 'off', true), set_config('max_parallel_workers_per_gather', '0', true)"
)
Rows = list[Sequence[Any]]


async def keep_order(connection: asyncpg.Connection) -> None:
    """Let the rest of the caller's transaction find the same items every time."""
    await connection.execute(_IN_ORDER)


@dataclass(frozen=True)
class LegRows:
    """Rows of key, id and score, and the values of groups as JSON where they are wanted; best first."""

    rows: Rows
    is_cut: bool


class WordSearch:
    """Search of one leg.

    Args:
        conditions: which items may be found.
        enough: items with which the search ends; what comes behind them is not asked for.
    """

    def __init__(self, collection: Collection, leg: WordsLeg, conditions: StepConditions, enough: int) -> None:
        self._enough = enough
        self._items = items_table(collection.key)
        self._leg = leg
        self._condition = conditions.all()
        self._given, told = conditions.parameters, conditions.told
        self._values = f", (SELECT {told} FROM {self._items} AS i WHERE i.key = c.key)" if told else ""
        self._ranking = WordRanking(leg.terms)

    async def find(self, connection: asyncpg.Connection, depth: int) -> LegRows:
        """Return the best `depth` items."""
        rows: Rows = []
        is_cut = False
        for lookup in self._ranking.lookups():
            parameters = self._given.copy()
            statement = self._lookup(lookup, depth - len(rows), parameters)
            found = await connection.fetch(statement, *parameters.values)
            is_cut = is_cut or bool(found and found[0][-1])
            rows += [tuple(row)[:-1] for row in found]
            if len(rows) >= min(depth, self._enough):
                break
        return LegRows(rows, is_cut)

    async def among(self, connection: asyncpg.Connection, keys: Sequence[int]) -> LegRows:
        """Return those of the items under `keys` that hold any of the words."""
        # No conditions: a parameter that a statement does not name is an error.
        parameters = Parameters()
        scored = self._scored(parameters).format(f"i.key = ANY ({parameters.add(list(keys), 'bigint[]')})")
        rows = await connection.fetch(f"SELECT * FROM ({scored}) AS c WHERE score > 0", *parameters.values)
        return LegRows([tuple(row) for row in rows], is_cut=False)

    def _lookup(self, lookup: WordLookup, count: int, parameters: Parameters) -> str:
        but = " | ".join(f"({all_query(part, self._leg.texts)})" for part in lookup.but)
        parts = [f"({all_query(part, self._leg.texts)})" for part in lookup.parts]
        if len(parts) > _MOST_LOOKED_UP:
            parts = [" | ".join(parts)]
        most = (MAX_RANKED_LATER if lookup.but else MAX_RANKED) // len(parts)
        scored = self._scored(parameters)
        found = []
        for part in parts:
            query = parameters.add(f"({part}) & !({but})" if but else part, "tsquery")
            found.append("(" + scored.format(f"i.words @@ {query} AND {self._condition} LIMIT {most}") + ")")
        # Planned by its values: a rare word is looked up, and of a frequent one the first items are read.
        return f"""
            WITH found AS MATERIALIZED ({" UNION ".join(found)})
            SELECT c.key, c.id, c.score{self._values}, (SELECT count(*) FROM found) >= {most}
            FROM found AS c WHERE {by_values(parameters)} ORDER BY c.score DESC, c.id LIMIT {int(count)}"""

    def _scored(self, parameters: Parameters) -> str:
        """Return the statement for key, id and score of items, but for the condition on them: `{}` stands there.

        It computes as `WordRanking.score` does.
        """
        texts, ranking = self._leg.texts, self._ranking
        columns, worth, content = [], [], []
        for place, term in enumerate(ranking.terms):
            own, any_form = (parameters.add(query(term, texts), "tsquery") for query in (words_query, term_query))
            columns.append(
                f"CASE WHEN i.words @@ {own} THEN float8 '{EXACT}' WHEN i.words @@ {any_form} THEN float8 '{BY_STEM}'"
                f" ELSE float8 '0' END AS t{place}"
            )
            worth.append(f"float8 '{OPTIONAL if term.is_optional else 1.0}' * t{place}")
            if not term.is_optional:
                content.append(f"(t{place} > 0)::int")
        for place, pair in enumerate(ranking.pairs):
            columns.append(f"(i.words @@ {parameters.add(words_query(pair, texts), 'tsquery')})::int AS p{place}")
        pairs = " + ".join(f"p{place}" for place in range(len(ranking.pairs))) or "0"
        share = f"({' + '.join(worth)} + float8 '{ADJACENT}' * ({pairs})) / float8 '{ranking.best!r}'"
        held = " + ".join(content)
        return f"""
            SELECT key, id, CASE WHEN {held} > 0 THEN
                ((({held}) - 1 + {share} * (float8 '{LONG}' / (float8 '{LONG}' + count))) / {len(content)})::real
                ELSE 0 END AS score
            FROM (
                SELECT i.key, i.id, length(i.words) AS count, {", ".join(columns)}
                FROM {self._items} AS i WHERE {{}}
            ) AS held"""
