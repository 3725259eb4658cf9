"""Batches of items into the store, one transaction each; a bad one is left out and the rest is written."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InternalFault, LensmeshError, Violation
from lensmesh_chassis.messages.packing import copy_all
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import from_status, to_status
from lensmesh_chassis.telemetry import spans
from router_svc.call_scope import CallScope
from router_svc.upstreams.errors import item_indexes, repath
from router_svc.upstreams.methods import UPSERT_ITEMS
from router_svc.upstreams.pool import UpstreamPool


@dataclass(frozen=True, slots=True)
class WriteResult:
    """Outcome for one item that is durable now."""

    outcome: search_pb2.UpsertOutcome.ValueType
    store_us: int
    """Time that the transaction took, in microseconds."""
    changes: tuple[search_pb2.ItemChange.ValueType, ...] = ()
    """Parts of the item that changed, where it was updated."""


class Writer:
    """Writes into one collection."""

    def __init__(
        self,
        stores: UpstreamPool,
        collection: str,
        metadata_policy: search_pb2.MetadataPolicy.ValueType,
        scope: CallScope,
    ) -> None:
        """Write into a collection. `scope` is at an item: what is said of one of a batch begins with that path."""
        self._stores = stores
        self._collection = collection
        self._metadata_policy = metadata_policy
        self._scope = scope

    async def run(self, items: Sequence[search_pb2.Item]) -> list[WriteResult | LensmeshError]:
        """Write items, and return what became of each, in order.

        Raises what concerns no single item: nothing is known to be written.
        """
        outcomes: dict[int, WriteResult | LensmeshError] = {}
        left = list(range(len(items)))
        while left:
            try:
                with spans.carrying_some(left):
                    written = await self._upsert([items[index] for index in left])
            except LensmeshError as error:
                bad = {position for position in item_indexes(error) if position < len(left)}
                if not bad:
                    raise
                for position in bad:
                    try:
                        outcomes[left[position]] = self._own(error, position)
                    except Exception as fault:  # noqa: BLE001 - of one item; to_status logs what nobody foresaw
                        outcomes[left[position]] = from_status(to_status(fault))
                left = [index for position, index in enumerate(left) if position not in bad]
            else:
                outcomes.update(zip(left, written, strict=True))
                left = []
        return [outcomes[index] for index in range(len(items))]

    async def _upsert(self, items: Sequence[search_pb2.Item]) -> list[WriteResult]:
        request = search_pb2.UpsertItemsRequest(collection=self._collection, metadata_policy=self._metadata_policy)
        await copy_all(items, request.items)
        started = time.perf_counter()
        answer = await self._stores.call_patiently(UPSERT_ITEMS, request, self._scope)
        store_us = int((time.perf_counter() - started) * 1e6)
        if len(answer.results) != len(items):
            raise InternalFault(
                Reason.INTERNAL, f"the search service answered {len(answer.results)} of {len(items)} items"
            )
        return [WriteResult(result.outcome, store_us, tuple(result.changes)) for result in answer.results]

    def _own(self, error: LensmeshError, position: int) -> LensmeshError:
        """Narrow the error of a batch to one of its items, in the words of the item's own fields."""
        own = [violation for violation in error.violations if violation.field.startswith(f"items[{position}]")]
        alone = len(own) == len(error.violations)
        message = error.message if alone else own[0].description
        narrowed = type(error)(
            error.reason,
            message,
            violations=[Violation(violation.field, violation.description) for violation in own],
            metadata=error.metadata if alone else None,
        )
        return repath(narrowed, [self._scope.path(0)])
