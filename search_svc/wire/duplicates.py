"""Translation of the job that finds groups of near-duplicates: what it is asked for, and what is kept of its result."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format

from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason
from search_svc.duplicates.grouping import Duplicate, GroupPart
from search_svc.duplicates.items import microseconds_of, time_at
from search_svc.filters import Filter
from search_svc.hashes import MAX_DISTANCE
from search_svc.wire.collections import write_time
from search_svc.wire.filters import read_filter

# At most, of one item in a message with what stands around it; and of a message.
_ITEM_BYTES = 384
_MESSAGE_BYTES = 512 * 1024


@dataclass(frozen=True)
class DuplicatesJob:
    """Subject of a search for near-duplicates."""

    filter: Filter | None
    max_distance: int


@dataclass(frozen=True)
class FoundDuplicates:
    """Facts of a result that its reader needs."""

    group_count: int
    token: str
    """Of the attempt that wrote the groups."""


def read_start_find_duplicates(request: search_pb2.StartFindDuplicatesRequest) -> DuplicatesJob:
    """Read and check what is asked for.

    Raises:
        InvalidInput: OPTION_INVALID, or FILTER_INVALID.
    """
    asked = request.max_distance if request.HasField("max_distance") else MAX_DISTANCE
    if asked > MAX_DISTANCE:
        raise InvalidInput(
            Reason.OPTION_INVALID,
            f"max_distance is {asked}: use 0 to {MAX_DISTANCE}, since hashes farther apart are of different images",
            field="max_distance",
        )
    return DuplicatesJob(read_filter(request.filter) if request.HasField("filter") else None, asked)


def read_find_duplicates(parameters: str) -> DuplicatesJob:
    """Return what a job of the kind find_duplicates was asked for."""
    request = json_format.Parse(parameters, search_pb2.StartFindDuplicatesRequest(), ignore_unknown_fields=True)
    return read_start_find_duplicates(request)


def find_duplicates_result(
    *, group_count: int, item_count: int, compared_count: int, skipped_count: int, token: str
) -> str:
    """Return the result of such a job as JSON. What callers do not see of it, `token`, is the service's own."""
    return json.dumps(
        {
            "group_count": group_count,
            "item_count": item_count,
            "compared_count": compared_count,
            "skipped_count": skipped_count,
            "token": token,
        }
    )


def read_result(result: str) -> FoundDuplicates:
    """Read the result of such a job."""
    kept = json.loads(result)
    return FoundDuplicates(kept["group_count"], kept["token"])


def write_part(groups: Sequence[GroupPart]) -> str:
    """Return groups as they are kept."""
    return json.dumps([_kept(group) for group in groups], separators=(",", ":"), ensure_ascii=False)


def _kept(group: GroupPart) -> dict[str, Any]:
    items = group.items
    return {
        "number": group.number,
        "count": group.item_count,
        "first": group.first_item,
        "ids": [item.id for item in items],
        "distances": [item.distance for item in items],
        "qualities": [item.quality for item in items],
        "same": [int(item.same_content) for item in items],
        "times": [microseconds_of(item.create_time) for item in items],
    }


def read_part(content: str) -> list[GroupPart]:
    """Read groups that were kept."""
    return [
        GroupPart(
            kept["number"],
            kept["count"],
            kept["first"],
            tuple(
                Duplicate(item_id, distance, quality, bool(same), time_at(moment))
                for item_id, distance, quality, same, moment in zip(
                    kept["ids"], kept["distances"], kept["qualities"], kept["same"], kept["times"], strict=True
                )
            ),
        )
        for kept in json.loads(content)
    ]


def write_groups(groups: Sequence[GroupPart], max_message_bytes: int) -> list[search_pb2.ReadDuplicatesResponse]:
    """Return groups as callers see them, in as many messages as it takes."""
    responses: list[search_pb2.ReadDuplicatesResponse] = []
    room = 0
    for group in groups:
        for place, item in enumerate(group.items):
            if room < _ITEM_BYTES:
                responses.append(search_pb2.ReadDuplicatesResponse())
                room = min(max_message_bytes, _MESSAGE_BYTES) - _ITEM_BYTES
            response = responses[-1]
            if not place or not response.groups:
                first = group.first_item + place
                response.groups.add(index=group.number, item_count=group.item_count, first_item=first)
            told = response.groups[-1].items.add(id=item.id, distance=item.distance, same_content=item.same_content)
            if item.quality is not None:
                told.quality = item.quality
            write_time(item.create_time, told.create_time)
            room -= _ITEM_BYTES
    return responses
