"""Jobs between the contracts' messages and the client's own classes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal, TypeAlias

from google.protobuf.message import Message

from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.rpc.status import from_status
from lensmesh_client import job_types, translate
from lensmesh_client.calibrations import calibrations

KINDS: Mapping[job_types.JobKind, search_pb2.JobKind.ValueType] = {
    kind: search_pb2.JobKind.Value(f"JOB_KIND_{kind.name}") for kind in job_types.JobKind
}
STATES: Mapping[job_types.JobState, search_pb2.JobState.ValueType] = {
    state: search_pb2.JobState.Value(f"JOB_STATE_{state.name}") for state in job_types.JobState
}
_Times: TypeAlias = Literal["create_time", "start_time", "end_time", "expire_time"]
_KIND_OF = {number: kind for kind, number in KINDS.items()}
_STATE_OF = {number: state for state, number in STATES.items()}


def job(message: search_pb2.Job) -> job_types.Job:
    """Translate a job. A state that this client does not know is one that has not ended."""
    return job_types.Job(
        id=message.id,
        kind=_KIND_OF.get(message.kind),
        collection=message.collection,
        state=_STATE_OF.get(message.state, job_types.JobState.RUNNING),
        done_count=message.done_count,
        total_count=message.total_count,
        units_per_second=message.units_per_second,
        time_left_s=message.time_left_ms / 1000 if message.HasField("time_left_ms") else None,
        message=message.message,
        cancel_requested=message.cancel_requested,
        error=from_status(message.error) if message.HasField("error") else None,
        attempt_count=message.attempt_count,
        create_time=_moment(message, "create_time"),
        start_time=_moment(message, "start_time"),
        end_time=_moment(message, "end_time"),
        expire_time=_moment(message, "expire_time"),
        result=_result(message),
    )


def _moment(message: search_pb2.Job, name: _Times) -> datetime | None:
    return translate.moment(getattr(message, name)) if message.HasField(name) else None


def _result(message: search_pb2.Job) -> dict[str, object]:
    name = message.WhichOneof("result")
    if name is None:
        return {}
    result: Message = getattr(message, name)
    if isinstance(result, search_pb2.CalibrateResult):
        return {"calibrations": list(calibrations(result.calibrations))}
    fields = {each.name: getattr(result, each.name) for each in result.DESCRIPTOR.fields}
    return {key: value if isinstance(value, int | float | str) else list(value) for key, value in fields.items()}
