"""SQL that finds what is nearest to a vector: as an index finds it, and by comparing every vector.

Both statements have the columns key, id and score. Numbers of hits are SQL: a plan that is kept for a statement knows a
number that stands in its text, and no parameter.
"""

from search_svc.filters import Filter
from search_svc.legs import VectorLeg
from search_svc.model import Collection, NamedSpace
from search_svc.postgres.predicates import Parameters, Predicate
from search_svc.postgres.sketch_search import SketchSearch
from search_svc.postgres.sketches import find_cover
from search_svc.postgres.tables import items_table, members_table, sent, vectors_table
from search_svc.store import Query

# A tie is two scores that are equal as they are told: as float32.
_SCORE = "least(greatest((1 - {distance})::real, -1), 1)"


def is_exact(collection: Collection, query: Query, leg: VectorLeg) -> bool:
    """Tell whether every vector is compared: no index is asked, or there is none yet."""
    return query.exact or leg.space.hnsw is None or leg.space.name in collection.unbuilt


class Nearest:
    """Search for what is nearest in one collection's space, of the items that may be found.

    Args:
        space: of the collection.
        chosen: which items may be found; None: all.
        parameters: of the statement that this becomes a part of.
        but: SQL for the key of the item that is no hit itself, or ALL of an array of them; empty where there is none.
        without: SQL that is TRUE for the items `i` that are left out; empty where none are.
        askers: how many items are no hits themselves, at most.
    """

    def __init__(
        self,
        collection: Collection,
        space: NamedSpace,
        chosen: Filter | None,
        parameters: Parameters,
        *,
        but: str = "",
        without: str = "",
        askers: int = 1,
    ) -> None:
        position = collection.definition.spaces.index(space)
        self._space = space
        self.items = items_table(collection.key)
        self.vectors = vectors_table(collection.key, position)
        self.members = members_table(collection.key, position)
        self._filtered = chosen is not None or bool(without)
        self._askers = int(askers)
        conditions = [f"i.key <> {but}"] if but else []
        if chosen is not None:
            conditions.append(f"({Predicate(collection.definition, parameters).sql(chosen)})")
        if without:
            conditions.append(f"({without}) IS NOT TRUE")
        self._condition = " AND ".join(conditions) or "TRUE"
        # An index does not know which groups are full.
        self._covered = None if without else find_cover(chosen, collection.definition, position)
        self._parameters = parameters
        # Named first wherever all are: tables are locked in this order.
        self._source = (
            f"{self.items} AS i JOIN {self.members} AS m USING (key) JOIN {self.vectors} AS v ON v.key = m.vector"
        )

    @property
    def sketch(self) -> str:
        """Column of the items' sketches that `by_index` compares, if few items pass; empty where it compares none."""
        return self._covered.cover.sketch if self._covered else ""

    def by_index(
        self, vector: str, count: int, gate: str = "TRUE", *, sketch: str = "", with_vectors: bool = False
    ) -> str:
        """Return the statement for up to `count` items as an index finds them. None is looked for unless `gate` holds.

        Args:
            sketch: SQL of the vector's, where sketches are compared.
            with_vectors: a last column `sent` is each item's vector as bytes; only where no sketches are compared.
        """
        if self._covered is None:
            return self._by_graph(vector, count, gate, with_vectors)
        sketches = SketchSearch(
            self.items, self.members, self.vectors, self._covered, self._condition, self._parameters, self._askers
        )
        few = "(SELECT is_few FROM passing)"
        return f"""
            WITH passing AS MATERIALIZED (SELECT {sketches.is_few()} AS is_few WHERE {gate})
            SELECT * FROM ({sketches.statement(vector, sketch, count, few)}) AS one
            UNION ALL SELECT * FROM ({self._by_graph(vector, count, f"NOT {few}")}) AS other
            ORDER BY score DESC, id LIMIT {count}"""

    def _by_graph(self, vector: str, count: int, gate: str, with_vectors: bool = False) -> str:
        """Return the statement for up to `count` items as the graph finds them.

        Vectors come first, then all items that have one of these. Where only some items of a vector are needed, they
        are chosen by their ids. Nothing is looked for unless `gate` holds.

        Items are asked for one by one, in a subquery: that uses their key, whatever the planner believes of a table
        that it knows nothing of yet.
        """
        # Without a filter every vector has an item, but for the one whose only item asks.
        source, enough = f"{self.vectors} AS v WHERE {gate}", f"({count} + {self._askers})"
        if self._filtered:
            source, enough = f"{self._source} WHERE {self._condition} AND {gate}", str(count)
        numbers = ", v.vector AS numbers" if with_vectors else ""
        told = f", {sent('v.numbers', self._space)} AS sent" if with_vectors else ""
        return f"""
            SELECT own.key, own.id, {_SCORE.format(distance="v.distance")} AS score{told}
            FROM (
                SELECT DISTINCT ON (distance, vector) * FROM (
                    SELECT v.key AS vector, v.vector <=> {vector} AS distance{numbers}
                    FROM {source} ORDER BY distance LIMIT {enough}
                ) AS nearest
            ) AS v CROSS JOIN LATERAL (
                SELECT m.key, i.id FROM {self.members} AS m CROSS JOIN LATERAL (
                    SELECT i.id FROM {self.items} AS i WHERE i.key = m.key AND {self._condition} LIMIT 1
                ) AS i
                WHERE m.vector = v.vector ORDER BY i.id LIMIT {count}
            ) AS own
            ORDER BY score DESC, own.id LIMIT {count}"""

    def among(self, vector: str, keys: str) -> str:
        """Return the statement for those of the items under `keys` that may still be found, in any order."""
        score = _SCORE.format(distance=f"(v.vector <=> {vector})")
        return (
            f"SELECT i.key, i.id, {score} AS score FROM {self._source} WHERE {self._condition} AND i.key = ANY ({keys})"
        )

    def exactly(self, vector: str, count: str, gate: str = "TRUE") -> str:
        """Return the statement for the nearest `count` of all items, best first, equal scores by id.

        Nothing is compared unless `gate` holds.
        """
        score = _SCORE.format(distance=f"(v.vector <=> {vector})")
        if self._filtered:
            scored = f"SELECT i.key, i.id, {score} AS score FROM {self._source} WHERE {self._condition} AND {gate}"
        else:
            # Every vector has an item, but for the one whose only item asks: so the best vectors are enough, and only
            # their items are looked up.
            scored = f"""
                SELECT i.key, i.id, best.score FROM (
                    SELECT v.key AS vector, {score} AS score FROM {self.vectors} AS v
                    WHERE {gate} ORDER BY score DESC FETCH FIRST ({count} + {self._askers}) ROWS WITH TIES
                ) AS best JOIN {self.members} AS m USING (vector) JOIN {self.items} AS i ON i.key = m.key
                WHERE {self._condition}"""
        return f"{scored} ORDER BY score DESC, id LIMIT {count}"
