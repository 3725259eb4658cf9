"""Search of PostgreSQL by perceptual hashes: candidates by the index on their bands, and of these all near ones."""

from collections.abc import Sequence
from typing import Any

import asyncpg

from search_svc.hashes import HASH_BITS, HASH_BYTES, LEAST_QUALITY, MAX_DISTANCE, bands_near
from search_svc.legs import HashLeg
from search_svc.model import Collection
from search_svc.postgres.predicates import Parameters
from search_svc.postgres.step_conditions import StepConditions
from search_svc.postgres.tables import items_table
from search_svc.postgres.word_legs import LegRows

_WHOLE = f"substring(i.perceptual_hash FROM 1 FOR {HASH_BYTES})"
_UNFRAMED = f"substring(i.perceptual_hash FROM {HASH_BYTES + 1})"


class HashSearch:
    """Search of one leg.

    Args:
        conditions: which items may be found.
    """

    def __init__(self, collection: Collection, leg: HashLeg, conditions: StepConditions) -> None:
        self._items = items_table(collection.key)
        self._leg = leg
        self._condition = conditions.all()
        self._given, told = conditions.parameters, conditions.told
        self._values = f", (SELECT {told} FROM {self._items} AS i WHERE i.key = near.key)" if told else ""

    async def find(self, connection: asyncpg.Connection, depth: int) -> LegRows:
        """Return the nearest `depth` items. All are compared that can be near."""
        return await self._near(connection, self._given.copy(), self._condition, depth, self._values)

    async def among(self, connection: asyncpg.Connection, keys: Sequence[int]) -> LegRows:
        """Return those of the items under `keys` that are near."""
        # Neither conditions nor groups: a parameter that a statement does not name is an error.
        parameters = Parameters()
        known = parameters.add(list(keys), "bigint[]")
        return await self._near(connection, parameters, f"i.key = ANY ({known})", len(keys))

    async def _near(
        self, connection: asyncpg.Connection, parameters: Parameters, condition: str, count: int, values: str = ""
    ) -> LegRows:
        if not self._leg.hashes:
            return LegRows([], is_cut=False)
        bands = parameters.add(bands_near(self._leg.hashes), "integer[]")
        statement = f"""
            SELECT near.key, near.id, (1 - near.distance / {HASH_BITS}.0)::real AS score{values}
            FROM (
                SELECT i.key, i.id, {self._distance(parameters)} AS distance FROM {self._items} AS i
                WHERE lensmesh.hash_bands(i.perceptual_hash) && {bands} AND i.perceptual_quality >= {LEAST_QUALITY}
                    AND {condition}
            ) AS near
            WHERE near.distance <= {MAX_DISTANCE} ORDER BY score DESC, near.id LIMIT {int(count)}"""
        rows: list[Sequence[Any]] = [tuple(row) for row in await connection.fetch(statement, *parameters.values)]
        return LegRows(rows, is_cut=False)

    def _distance(self, parameters: Parameters) -> str:
        """Return the SQL for the least distance of an item's hashes and the leg's; an item may have no second one."""
        asked = [
            parameters.add(asyncpg.BitString.from_int(int.from_bytes(each, "big"), HASH_BITS), f"bit({HASH_BITS})")
            for each in self._leg.hashes
        ]
        return f"least({', '.join(f'{_bits(_WHOLE, one)}, {_second(one)}' for one in asked)})"


def _bits(stored: str, asked: str) -> str:
    return f"bit_count(('x' || encode({stored}, 'hex'))::bit({HASH_BITS}) # {asked})"


def _second(asked: str) -> str:
    return f"CASE WHEN length(i.perceptual_hash) > {HASH_BYTES} THEN {_bits(_UNFRAMED, asked)} END"
