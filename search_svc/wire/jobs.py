"""Translation of jobs between the contract and the domain.

What a job is asked for is kept as its request, in protobuf's JSON, and so is its result. The names of kinds, of their
values in JobKind, and of their fields in Job belong together: a kind "delete_items" has JOB_KIND_DELETE_ITEMS,
`delete_items` for its parameters, and `delete_items_result`.
"""

import re
import uuid
from collections.abc import Sequence
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message

from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import to_status
from search_svc.filters import Filter
from search_svc.jobs.errors import parameters_too_large
from search_svc.jobs.model import MAX_PARAMETERS_BYTES, Job, JobState
from search_svc.model import Definition, Hnsw
from search_svc.wire.collections import graph_problems, write_time
from search_svc.wire.filters import read_filter

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
# Any UUID will do, as long as it is always the same.
_NAMESPACE = uuid.UUID("6c656e73-6d65-5368-8000-000000000002")
_PREFIX = "JOB_KIND_"
_STATES = {
    search_pb2.JOB_STATE_PENDING: JobState.PENDING,
    search_pb2.JOB_STATE_RUNNING: JobState.RUNNING,
    search_pb2.JOB_STATE_SUCCEEDED: JobState.SUCCEEDED,
    search_pb2.JOB_STATE_FAILED: JobState.FAILED,
    search_pb2.JOB_STATE_CANCELLED: JobState.CANCELLED,
}
_WIRE_STATES = {state: wire for wire, state in _STATES.items()}


def is_job_id(text: str) -> bool:
    """Tell whether a job may have this id."""
    return _ID.fullmatch(text) is not None


def read_job_id(given: str, request_id: str, kind: str, parameters: str) -> str:
    """Return the id of a job that is asked for: the caller's, or one that the same call sent again has too.

    Raises:
        InvalidInput: JOB_INVALID.
    """
    if not given:
        return str(uuid.uuid5(_NAMESPACE, f"{request_id} {kind} {parameters}"))
    if not is_job_id(given):
        raise InvalidInput(
            Reason.JOB_INVALID,
            f"job_id is {given[:80]!r}: use 1 to 63 of A-Z, a-z, 0-9, ., - and _, beginning with a letter or digit, or"
            " leave it out",
            field="job_id",
        )
    return given


def write_parameters(request: Any, field: str) -> str:
    """Return the JSON of what a request asks for, all but its `job_id`. `field` is what may make it large.

    Raises:
        InvalidInput: JOB_INVALID, it is too large to keep.
    """
    kept = type(request)()
    kept.CopyFrom(request)
    kept.ClearField("job_id")
    text = json_format.MessageToJson(kept, preserving_proto_field_name=True, indent=None, sort_keys=True)
    if (size := len(text.encode())) > MAX_PARAMETERS_BYTES:
        raise parameters_too_large(size, field)
    return text


def read_delete_items(parameters: str) -> Filter:
    """Return the filter of a job of the kind delete_items."""
    request = json_format.Parse(parameters, search_pb2.StartDeleteItemsRequest(), ignore_unknown_fields=True)
    return read_filter(request.filter)


def read_rebuild(parameters: str, definition: Definition) -> dict[str, Hnsw]:
    """Return what a job of the kind rebuild_indexes builds: for each space, in order, the parameters of its index.

    Raises:
        InvalidInput: as `wanted_indexes` does.
    """
    request = json_format.Parse(parameters, search_pb2.StartRebuildIndexesRequest(), ignore_unknown_fields=True)
    return wanted_indexes(request, definition)


def wanted_indexes(request: search_pb2.StartRebuildIndexesRequest, definition: Definition) -> dict[str, Hnsw]:
    """Return the parameters that each of the spaces is to be indexed with.

    Raises:
        InvalidInput: SPACE_UNKNOWN, or OPTION_INVALID for a space without an index, and for parameters out of range.
    """
    names = list(request.spaces) or [named.name for named in definition.spaces if named.hnsw]
    if not names:
        raise InvalidInput(
            Reason.OPTION_INVALID, f"the collection {definition.name} has no index in any space", field="spaces"
        )
    wanted: dict[str, Hnsw] = {}
    for i, name in enumerate(names):
        named = definition.space(name) if name else None
        if named is None:
            known = ", ".join(each.name for each in definition.spaces)
            raise InvalidInput(
                Reason.SPACE_UNKNOWN,
                f"spaces[{i}]: the collection {definition.name} has no space {name[:80]!r}: use one of {known}",
                field=f"spaces[{i}]",
            )
        if named.hnsw is None or name in wanted:
            why = "is named twice" if name in wanted else "has no index: leave it out"
            raise InvalidInput(Reason.OPTION_INVALID, f"spaces[{i}]: {name} {why}", field=f"spaces[{i}]")
        wanted[name] = _tuned(request.hnsw, named.hnsw)
    return wanted


def _tuned(asked: search_pb2.HnswIndex, there: Hnsw) -> Hnsw:
    tuned = Hnsw(asked.m or there.m, asked.ef_construction or there.ef_construction)
    for field, description in graph_problems(tuned):
        raise InvalidInput(Reason.OPTION_INVALID, f"hnsw.{field} {description}", field=f"hnsw.{field}")
    return tuned


def read_kind(wire: int) -> str:
    """Return the name of a kind; empty for any.

    Raises:
        InvalidInput: OPTION_INVALID, a kind that is not known here.
    """
    if not wire:
        return ""
    if wire not in search_pb2.JobKind.values():
        raise _unknown("kind", wire, "JobKind")
    return search_pb2.JobKind.Name(search_pb2.JobKind.ValueType(wire)).removeprefix(_PREFIX).lower()


def read_states(states: Sequence[int]) -> frozenset[JobState]:
    """Return the states that a list is of; none of them for any.

    Raises:
        InvalidInput: OPTION_INVALID, a state that is not known here.
    """
    for i, wire in enumerate(states):
        if wire not in (search_pb2.JOB_STATE_UNSPECIFIED, *_STATES):
            raise _unknown(f"states[{i}]", wire, "JobState")
    if search_pb2.JOB_STATE_UNSPECIFIED in states:
        return frozenset()
    return frozenset(_STATES[search_pb2.JobState.ValueType(wire)] for wire in states)


def _unknown(field: str, value: int, enum: str) -> InvalidInput:
    return InvalidInput(
        Reason.OPTION_INVALID, f"{field} is {value}, which this release does not know: use one of {enum}", field=field
    )


def write_job(job: Job, *, with_parameters: bool = False) -> search_pb2.Job:
    """Return a job as callers see it."""
    message = search_pb2.Job(
        id=job.id,
        kind=_wire_kind(job.kind),
        collection=job.collection,
        state=_WIRE_STATES[job.state],
        cancel_requested=job.cancel_requested,
        done_count=job.progress.done,
        total_count=job.progress.total,
        message=job.progress.message,
        attempt_count=job.attempts,
    )
    if job.state is JobState.RUNNING and job.progress.rate > 0:
        message.units_per_second = job.progress.rate
        if job.progress.total:
            message.time_left_ms = int(1000 * (job.progress.total - job.progress.done) / job.progress.rate)
    if job.error is not None:
        message.error.CopyFrom(to_status(job.error))
    write_time(job.create_time, message.create_time)
    for moment, name in ((job.start_time, "start_time"), (job.end_time, "end_time"), (job.expire_time, "expire_time")):
        if moment is not None:
            write_time(moment, getattr(message, name))
    if with_parameters:
        _fill(message, job.kind, job.parameters)
    if job.state is JobState.SUCCEEDED:
        _fill(message, f"{job.kind}_result", job.result)
    return message


def _wire_kind(kind: str) -> search_pb2.JobKind.ValueType:
    name = _PREFIX + kind.upper()
    # Of a newer release, which left the job in the store.
    return dict(search_pb2.JobKind.items()).get(name, search_pb2.JOB_KIND_UNSPECIFIED)


def _fill(message: search_pb2.Job, field: str, text: str) -> None:
    if field in search_pb2.Job.DESCRIPTOR.fields_by_name:
        part: Message = getattr(message, field)
        part.SetInParent()
        json_format.Parse(text, part, ignore_unknown_fields=True)
