"""Filters as SQL. Values and paths travel as parameters; the text consists of our own words alone.

SQL has three truth values and the contract two. A test on a missing field may come out as NULL here, which WHERE takes
for false. AND and OR keep that; only NOT has to say IS NOT TRUE.
"""

import json
from datetime import datetime

from search_svc.filters import (
    TIME_FIELDS,
    All,
    Equals,
    Exists,
    FieldPath,
    Filter,
    Matches,
    Not,
    NumberRange,
    Scalar,
    Some,
    TimeRange,
)
from search_svc.model import Definition, FieldType
from search_svc.postgres.words import all_query
from search_svc.times import parse_time, time_text
from search_svc.words.texts import text_place
from search_svc.words.wanting import wanted

# Own fields as JSON values; an empty digest is no digest.
_OWN = {
    "$id": "to_jsonb(i.id)",
    "$caption": "to_jsonb(i.caption_text)",
    "$content_digest": "to_jsonb(encode(nullif(i.content_digest, ''), 'hex'))",
    "$low_content": "to_jsonb(i.low_content)",
    "$create_time": "i.create_time",
    "$update_time": "i.update_time",
}


# With its parameter true this costs nothing, and a plan for any value of it is dearer than every other plan.
_BY_VALUES = "({} OR (SELECT count(*) FROM generate_series(1, 1000000000)) > 0)"


class Parameters:
    """Numbered parameters of one statement. Its text does not depend on their values."""

    def __init__(self) -> None:
        self.values: list[object] = []

    def copy(self) -> "Parameters":
        """Return others that begin with these."""
        other = Parameters()
        other.values = list(self.values)
        return other

    def add(self, value: object, sql_type: str) -> str:
        """Add a value and return its place in the statement: $3::text."""
        self.values.append(value)
        return f"${len(self.values)}::{sql_type}"


def by_values(parameters: Parameters) -> str:
    """Return a condition that is TRUE. The statement that has it is planned by its values each time."""
    return _BY_VALUES.format(parameters.add(True, "boolean"))


class Predicate:
    """Compiler of filters on a collection's items, which the statement calls `i`."""

    def __init__(self, definition: Definition, parameters: Parameters) -> None:
        self._definition = definition
        self._parameters = parameters
        self._fields: dict[FieldPath, str] = {}

    def sql(self, tree: Filter) -> str:
        """Return a condition that is TRUE for the items that pass, FALSE or NULL for the others.

        A statement that has it is planned by its values each time, however often it is prepared: which items pass, and
        the paths that tell which index knows, are among them.
        """
        return f"({self._sql(tree)}) AND {by_values(self._parameters)}"

    def _sql(self, tree: Filter) -> str:
        match tree:
            case All(inner):
                return " AND ".join(f"({self._sql(one)})" for one in inner) or "TRUE"
            case Some(inner):
                return " OR ".join(f"({self._sql(one)})" for one in inner) or "FALSE"
            case Not(one):
                return f"({self._sql(one)}) IS NOT TRUE"
            case Exists(path):
                return self._exists(path)
            case Equals(path, values):
                return self._own_equals(path[0], values) if path[0] in _OWN else self._equals(path, values)
            case NumberRange():
                return self._number_range(tree)
            case TimeRange():
                return self._time_range(tree)
            case Matches(path, query, field):
                place = text_place(self._definition, path, field)
                text = all_query(wanted(query, self._definition.language), [place])
                return f"i.words @@ {self._parameters.add(text, 'text')}::tsquery"

    def value(self, path: FieldPath) -> str:
        """Return the expression for the JSON value of a field; NULL where there is none.

        Steps do not lead into lists.
        """
        if path[0] in _OWN:
            return _OWN[path[0]]
        if path not in self._fields:
            levels = (f" -> {self._parameters.add(level, 'text')}" for level in path)
            self._fields[path] = "i.metadata" + "".join(levels)
        return self._fields[path]

    def _exists(self, path: FieldPath) -> str:
        if path[0] in _OWN:
            return f"({_OWN[path[0]]}) IS NOT NULL"
        return f"jsonb_typeof({self.value(path)}) <> 'null'"

    def _equals(self, path: FieldPath, values: tuple[Scalar, ...]) -> str:
        if not values:
            return "FALSE"
        # Containment of a scalar is what the contract asks: same type, 1 like 1.0, in the value or in the list it is.
        field = self.value(path)
        if len(values) == 1:
            test = f"({field}) @> {self._parameters.add(to_json(values[0]), 'jsonb')}"
        else:
            test = f"({field}) @> ANY({self._parameters.add([to_json(value) for value in values], 'jsonb[]')})"
        numbers = [value for value in values if isinstance(value, float)]
        if len(numbers) == len(values) and self._indexed(path, FieldType.NUMBER):
            return f"{self._between('number', field, 'float8', min(numbers), max(numbers))} AND {test}"
        return test

    def _own_equals(self, name: str, values: tuple[Scalar, ...]) -> str:
        texts = [value for value in values if isinstance(value, str)]
        if name in TIME_FIELDS:
            moments = [time_text(moment) for moment in map(parse_time, texts) if moment is not None]
            parsed = f"SELECT lensmesh.parse_time(t) FROM unnest({self._parameters.add(moments, 'text[]')}) AS t"
            return f"{_OWN[name]} = ANY(ARRAY({parsed}))"
        if name == "$content_digest":
            digests = [digest for digest in map(_from_hex, texts) if digest]
            return f"i.content_digest <> '' AND i.content_digest = ANY({self._parameters.add(digests, 'bytea[]')})"
        if name == "$low_content":
            bools = [value for value in values if isinstance(value, bool)]
            return f"i.low_content = ANY({self._parameters.add(bools, 'boolean[]')})"
        column = "i.id" if name == "$id" else "i.caption_text"
        return f"{column} = ANY({self._parameters.add(texts, 'text[]')})"

    def _number_range(self, test: NumberRange) -> str:
        if test.path[0] in TIME_FIELDS:
            return "FALSE"
        field = self.value(test.path)
        exact = f"EXISTS (SELECT FROM lensmesh.numbers({field}) AS n WHERE {self._bounds('n', test, 'float8')})"
        if not self._indexed(test.path, FieldType.NUMBER):
            return exact
        return f"{self._between('number', field, 'float8', *_outer(test))} AND {exact}"

    def _time_range(self, test: TimeRange) -> str:
        if test.path[0] in TIME_FIELDS:
            return self._bounds(_OWN[test.path[0]], test, "timestamptz")
        field = self.value(test.path)
        exact = f"EXISTS (SELECT FROM lensmesh.times({field}) AS t WHERE {self._bounds('t', test, 'timestamptz')})"
        if not self._indexed(test.path, FieldType.TIME):
            return exact
        return f"{self._between('time', field, 'timestamptz', *_outer(test))} AND {exact}"

    def _bounds(self, what: str, test: NumberRange | TimeRange, sql_type: str) -> str:
        bounds = ((">=", test.at_least), (">", test.above), ("<=", test.at_most), ("<", test.below))
        return (
            " AND ".join(f"{what} {sign} {self._bound(bound, sql_type)}" for sign, bound in bounds if bound is not None)
            or "TRUE"
        )

    def _between(self, kind: str, field: str, sql_type: str, low: object, high: object) -> str:
        """Return what must hold if any element lies between: the index on least and greatest answers it."""
        parts = [f"lensmesh.{kind}_min({field}) <= {self._bound(high, sql_type)}" if high is not None else ""]
        parts.append(f"lensmesh.{kind}_max({field}) >= {self._bound(low, sql_type)}" if low is not None else "")
        return " AND ".join(part for part in parts if part) or "TRUE"

    def _bound(self, bound: object, sql_type: str) -> str:
        if isinstance(bound, datetime):
            # As text: the driver takes the first and the last instant of a datetime for infinities.
            return f"lensmesh.parse_time({self._parameters.add(time_text(bound), 'text')})"
        return self._parameters.add(bound, sql_type)

    def _indexed(self, path: FieldPath, field_type: FieldType) -> bool:
        index = self._definition.field_index(path)
        return index is not None and index.type is field_type


def to_json(value: Scalar) -> str:
    """Write a scalar as JSON text."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _outer(test: NumberRange | TimeRange) -> tuple[object, object]:
    low = test.above if test.at_least is None else test.at_least
    high = test.below if test.at_most is None else test.at_most
    return low, high


def _from_hex(text: str) -> bytes:
    """Return the bytes of a hexadecimal text of either case; none if it is no such text."""
    try:
        return bytes.fromhex(text) if text.isalnum() else b""
    except ValueError:
        return b""
