"""SQL for the items that one step of a search may find, and for the groups that they are in."""

import json
from collections.abc import Sequence
from functools import cached_property

from search_svc.grouping import MAX_VALUES_BYTES
from search_svc.model import Collection
from search_svc.postgres.predicates import Parameters, Predicate
from search_svc.ranking import Step
from search_svc.store import Query


class StepConditions:
    """Conditions on the items `i` of a statement, and its first parameters.

    Args:
        askers: keys of the items that legs are near to, and that are no hits.
    """

    def __init__(self, collection: Collection, query: Query, askers: Sequence[int], step: Step) -> None:
        self.parameters = Parameters()
        self._query = query
        self._predicate = Predicate(collection.definition, self.parameters)
        paths = query.group_by.paths if query.group_by else ()
        self.values = f"jsonb_build_array({', '.join(map(self._predicate.value, paths))})" if paths else ""
        """The values that make the group of an item, as JSON; empty where there are no groups."""
        text = f"({self.values})::text"
        self.told = f"CASE WHEN octet_length({text}) <= {MAX_VALUES_BYTES} THEN {text} END" if paths else ""
        """Their text; NULL where it is too long, and empty where there are no groups."""
        self._askers = list(askers)
        self._full = step.without

    # PostgreSQL refuses a parameter that a statement does not use: these are added with their first use.
    @cached_property
    def but(self) -> str:
        """The keys that are no hits; empty where all may be."""
        return f"ALL ({self.parameters.add(self._askers, 'bigint[]')})" if self._askers else ""

    @cached_property
    def without(self) -> str:
        """The condition that is TRUE for items of groups that are full; empty where none is."""
        texts = [f"[{', '.join(map(_json, values))}]" for values in self._full]
        return f"{self.values} = ANY ({self.parameters.add(texts, 'jsonb[]')})" if texts else ""

    def all(self) -> str:
        """Return one condition that is TRUE for items that may be found."""
        parts = [f"i.key <> {self.but}"] if self.but else []
        if self._query.filter is not None:
            parts.append(f"({self._predicate.sql(self._query.filter)})")
        if self.without:
            parts.append(f"({self.without}) IS NOT TRUE")
        return " AND ".join(parts) or "TRUE"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
