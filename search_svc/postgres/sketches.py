"""Sketches of vectors: two bits for each number, in an index of a field's values that a search need not leave.

A filter that few of many items pass makes the walk over a graph long, since it meets mostly others. The index of such a
field has a sketch beside each value's items, so that reading a piece of it tells which of them may be near. These are
compared by their vectors then. For each pair that is covered the table of items has two columns:

    field_0     digest of the field's value; 0 where it is a list, which may hold any; NULL where there is none
    sketch_0    of the vector in the first space; NULL where the item has none
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import asyncpg
import numpy as np

from search_svc.filters import All, Equals, Filter, Scalar
from search_svc.model import Definition, FieldType, Item, NamedSpace, Numbers
from search_svc.postgres.tables import items_table, path_literal
from search_svc.threads import Threads

# By the ids of items.
Sketches: TypeAlias = Mapping[str, Sequence[asyncpg.BitString | None]]

# Each pair of a field and a space makes an index. The first ones of a definition get theirs.
MAX_COVERS = 8
# More values of one condition are left to the graph.
MAX_VALUES = 20
LIST_DIGEST = 0
# Of the numbers of a longer vector the first ones count. An entry of the index stays far below what a page takes.
_MAX_NUMBERS = 1024
# A number is one of three: below, between or above. In units of what a number of a vector of length 1 is on average.
_BOUND = 0.6
# Making a sketch takes for each number as long as a thread's translation of so many bytes.
_NUMBER_COST = 1


class Cover(NamedTuple):
    """A field and a space, by their places in the definition, that share an index."""

    field: int
    space: int

    @property
    def value(self) -> str:
        """Column of the field's value."""
        return f"field_{self.field}"

    @property
    def sketch(self) -> str:
        """Column of the sketch."""
        return f"sketch_{self.space}"


class Covered(NamedTuple):
    """A condition of a filter that an index with sketches answers."""

    cover: Cover
    values: Sequence[Scalar]
    is_all: bool
    """True where it is the whole filter."""


def covers(definition: Definition) -> tuple[Cover, ...]:
    """Return the pairs that have an index, in order."""
    spaces = [place for place, named in enumerate(definition.spaces) if named.hnsw]
    fields = [place for place, index in enumerate(definition.field_indexes) if index.type is FieldType.KEYWORD]
    return tuple(Cover(field, space) for space in spaces for field in fields)[:MAX_COVERS]


def sketched(definition: Definition) -> list[int]:
    """Return the places of the spaces whose vectors have sketches."""
    return sorted({cover.space for cover in covers(definition)})


def sketch_columns(definition: Definition) -> list[str]:
    """Return the names of the columns of sketches."""
    return [f"sketch_{place}" for place in sketched(definition)]


def sketch_type(named: NamedSpace) -> str:
    """Return the type of a sketch of vectors in a space."""
    return f"bit({2 * min(named.space.dimension, _MAX_NUMBERS)})"


def add_columns(key: str, definition: Definition) -> Iterator[str]:
    """Yield the statements that give a table of items room for sketches."""
    for place in sketched(definition):
        yield f"ALTER TABLE {items_table(key)} ADD COLUMN sketch_{place} {sketch_type(definition.spaces[place])}"


def create_indexes(key: str, definition: Definition) -> Iterator[str]:
    """Yield the statements that make the indexes. The table is written anew, if there is anything in it."""
    items = items_table(key)
    fields = {cover.field: cover.value for cover in covers(definition)}
    paths = {column: path_literal(definition.field_indexes[place].path) for place, column in fields.items()}
    digests = {column: _digest_of(f"({path})") for column, path in paths.items()}
    if digests:
        added = (f"ADD COLUMN {column} bigint GENERATED ALWAYS AS ({sql}) STORED" for column, sql in digests.items())
        yield f"ALTER TABLE {items} {', '.join(added)}"
    for cover in covers(definition):
        yield f"CREATE INDEX ON {items} ({cover.value}) INCLUDE (key, {cover.sketch})"


def _digest_of(value: str) -> str:
    return f"CASE jsonb_typeof({value}) WHEN 'array' THEN {LIST_DIGEST} ELSE jsonb_hash_extended({value}, 0) END"


def find_cover(tree: Filter | None, definition: Definition, space: int) -> Covered | None:
    """Return a condition that every item has to meet and that an index with sketches of that space answers, or None."""
    match tree:
        case Equals(path, values) if 0 < len(values) <= MAX_VALUES:
            cover = next((c for c in covers(definition) if c.space == space and _path(definition, c) == path), None)
            return Covered(cover, values, True) if cover else None
        case All(inner):
            found = next(filter(None, (find_cover(one, definition, space) for one in inner)), None)
            return found and found._replace(is_all=found.is_all and len(inner) == 1)
    return None


def _path(definition: Definition, cover: Cover) -> tuple[str, ...]:
    return definition.field_indexes[cover.field].path


def sketch(vector: Numbers) -> asyncpg.BitString:
    """Return the sketch of one vector."""
    return _sketches([vector])[0]


async def sketches_by_id(items: Sequence[Item], definition: Definition, threads: Threads) -> Sketches:
    """Return the sketches of items in the order of `sketch_columns`; None for a vector that an item does not have."""
    names = [definition.spaces[place].name for place in sketched(definition)]

    def make() -> Sketches:
        columns = [_column(items, name) for name in names]
        return {item.id: tuple(column[place] for column in columns) for place, item in enumerate(items)}

    numbers = sum(definition.spaces[place].space.dimension for place in sketched(definition))
    return await threads.run(make, _NUMBER_COST * numbers * len(items))


def _column(items: Sequence[Item], name: str) -> list[asyncpg.BitString | None]:
    vectors = [item.vectors[name] for item in items if name in item.vectors]
    made = iter(_sketches(vectors) if vectors else ())
    return [next(made) if name in item.vectors else None for item in items]


def _sketches(vectors: Sequence[Numbers]) -> list[asyncpg.BitString]:
    """Return sketches of vectors. Bits that differ grow with the angle between two of them."""
    numbers = np.stack(vectors).astype(np.float32)
    least = np.finfo(np.float32).tiny
    # Twice: the squares of long and of short numbers leave float32.
    numbers /= np.maximum(np.abs(numbers).max(axis=1, keepdims=True), least)
    numbers /= np.maximum(np.linalg.norm(numbers, axis=1, keepdims=True), least)
    bound = _BOUND / math.sqrt(numbers.shape[1])
    numbers = numbers[:, :_MAX_NUMBERS]
    packed = np.packbits(np.concatenate([numbers > -bound, numbers > bound], axis=1), axis=1)
    return [asyncpg.BitString.frombytes(row.tobytes(), 2 * numbers.shape[1]) for row in packed]
