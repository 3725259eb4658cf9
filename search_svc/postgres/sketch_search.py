"""SQL for what is nearest of the few items that a filter passes: by the sketches that its index has, then by vectors.

The statement has the columns key, id and score, as those of `nearest`.
"""

from search_svc.postgres.predicates import Parameters, to_json
from search_svc.postgres.sketches import LIST_DIGEST, Covered

# So many of the items that a filter passes are compared by their vectors, those with the nearest sketches.
_COMPARED = 1_000
# More of them for each hit, where many are wanted.
_COMPARED_A_HIT = 4
# The graph takes less time where a greater share of all items pass, since it looks at some hundred of them anyway; and
# where more pass, since it looks at as many whatever their number. Where a filter has more conditions, each item that
# meets the one is looked at, which takes longer.
_READ_SHARE, _READ_SHARE_SLOWLY = 0.05, 0.03
_MOST_READ, _MOST_READ_SLOWLY = 20_000, 10_000
_LEAST_READ = 1_000
# Lists are read as if they held what is asked for. More of them would crowd out what does.
_MOST_LISTS = 250


class SketchSearch:
    """Search among the items that one condition of a filter passes.

    Args:
        items: name of their table; `members` and `vectors` are of the space.
        covered: the condition.
        condition: all that an item `i` has to meet.
        parameters: of the statement that this becomes a part of.
        askers: how many items are no hits themselves, at most.
    """

    def __init__(
        self,
        items: str,
        members: str,
        vectors: str,
        covered: Covered,
        condition: str,
        parameters: Parameters,
        askers: int,
    ) -> None:
        self._items = items
        self._members = members
        self._vectors = vectors
        self._covered = covered
        self._condition = condition
        self._askers = askers
        texts = [parameters.add(to_json(value), "jsonb") for value in covered.values]
        digests = [f"jsonb_hash_extended({text}, 0)" for text in texts]
        self._passing = f"i.{covered.cover.value} = ANY (ARRAY[{', '.join(digests)}])"
        self._may_pass = f"i.{covered.cover.value} = ANY (ARRAY[{', '.join((*digests, f'{LIST_DIGEST}::bigint'))}])"
        self._list = f"i.{covered.cover.value} = {LIST_DIGEST}"

    def is_few(self) -> str:
        """Return the SQL for whether so few items pass that this search takes less time than the graph's."""
        share, most = (_READ_SHARE, _MOST_READ) if self._covered.is_all else (_READ_SHARE_SLOWLY, _MOST_READ_SLOWLY)
        rows = f"(SELECT greatest(reltuples, 0) FROM pg_catalog.pg_class WHERE oid = '{self._items}'::regclass)"
        return (
            f"(SELECT count(*) FROM (SELECT FROM {self._items} AS i WHERE {self._passing} LIMIT {most + 1}) AS p)"
            f" <= least(greatest({share} * {rows}, {_LEAST_READ}), {most}) AND (SELECT count(*) FROM"
            f" (SELECT FROM {self._items} AS i WHERE {self._list} LIMIT {_MOST_LISTS + 1}) AS l) <= {_MOST_LISTS}"
        )

    def statement(self, vector: str, sketch: str, count: int, gate: str) -> str:
        """Return the statement for up to `count` items. None is looked for unless `gate` holds.

        Vectors are asked for by a list of keys, of which the planner expects few: so it uses their indexes. Of equal
        sketches and of equal scores all go on, so that ids decide in the end.
        """
        column = f"i.{self._covered.cover.sketch}"
        others = "" if self._covered.is_all else f" AND {self._condition}"
        compared = max(_COMPARED, _COMPARED_A_HIT * count)
        return f"""
            SELECT best.key, i.id, best.score FROM (
                SELECT m.key, least(greatest((1 - (v.vector <=> {vector}))::real, -1), 1) AS score
                FROM {self._members} AS m JOIN {self._vectors} AS v ON v.key = m.vector
                WHERE m.key = ANY (ARRAY(
                    SELECT i.key FROM {self._items} AS i
                    WHERE {self._may_pass} AND {column} IS NOT NULL AND {gate}{others}
                    ORDER BY {column} <~> {sketch} FETCH FIRST {compared} ROWS WITH TIES
                ))
                ORDER BY score DESC FETCH FIRST ({count} + {self._askers}) ROWS WITH TIES
            ) AS best CROSS JOIN LATERAL (
                SELECT i.id FROM {self._items} AS i WHERE i.key = best.key AND {self._condition} LIMIT 1
            ) AS i
            ORDER BY best.score DESC, i.id LIMIT {count}"""
