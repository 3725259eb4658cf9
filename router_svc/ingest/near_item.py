"""Treatment of one image that may be a near-duplicate: it is stored, marked, or left out."""

import functools

from google.protobuf import struct_pb2

from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import LensmeshError
from router_svc.ingest.lookup import LookupResult
from router_svc.ingest.near_duplicates import NearTurn
from router_svc.ingest.near_lookup import LEAST_QUALITY, NearItem, NearQuery
from router_svc.ingest.near_options import NearPolicy
from router_svc.ingest.steps import Steps
from router_svc.micro_batcher import MicroBatcher


async def is_left_out(
    turn: NearTurn, steps: Steps, found: LookupResult, item: search_pb2.Item, done: router_pb2.IngestedItem
) -> bool:
    """Look for near-duplicates of an item that has its hash, and tell whether it is not stored.

    The nearest one is told in `done`, and marked in the item's metadata where that is asked for. An item that is there
    with this very image is compared with none.
    """
    options, nearest_of = steps.options.near, steps.nearest
    if options is None or nearest_of is None:
        return False
    query = NearQuery(item.id, item.perceptual_hash)
    is_compared = item.perceptual_hash.quality >= LEAST_QUALITY
    is_new = found.own is None or found.own.content_digest != item.content_digest
    nearest: NearItem | None = None
    if is_compared and is_new:
        nearest = await turn.nearest(query, functools.partial(_look, nearest_of, query))
    if nearest is not None:
        done.near_duplicate.id, done.near_duplicate.distance = nearest.id, nearest.distance
        if options.action is NearPolicy.SKIP:
            turn.pass_on()
            done.outcome = search_pb2.UPSERT_OUTCOME_SKIPPED
            return True
    if options.action is NearPolicy.MARK:
        _mark(item, options.field, nearest, found.own, is_new=is_new)
    if is_compared:
        await turn.accept(query)
    else:
        turn.pass_on()
    return False


async def _look(
    nearest_of: MicroBatcher[NearQuery, NearItem | LensmeshError | None], query: NearQuery
) -> NearItem | None:
    found = await nearest_of.submit(query)
    if isinstance(found, LensmeshError):
        raise found
    return found


def _mark(
    item: search_pb2.Item, field: str, nearest: NearItem | None, own: search_pb2.Item | None, *, is_new: bool
) -> None:
    """Write the near-duplicate's id into the metadata; keep an older mark with its image, and take it from another."""
    fields = item.metadata.fields
    if nearest is not None:
        fields[field].string_value = nearest.id
    elif own is not None and field in own.metadata.fields and field not in fields:
        if is_new:
            fields[field].null_value = struct_pb2.NULL_VALUE
        else:
            fields[field].CopyFrom(own.metadata.fields[field])
