"""Jobs: begun, listed, shown, watched, cancelled."""

from collections.abc import AsyncIterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from http_svc.answers import json_answer
from http_svc.json_bodies import dump
from http_svc.mesh import begun
from http_svc.rest.asked import Asked, path_text, read_json, read_query
from http_svc.rest.collections import NoQuery, PageQuery, calibration
from http_svc.rest.context import RestContext
from http_svc.rest.filters import DESCRIPTION, filter_of
from http_svc.rest.operations import SSE, OperationExample, RestOperation
from http_svc.rest.shapes import FailureShape, JobShape, JobsShape
from http_svc.rest.streaming import StreamedAnswer, event, failed_event
from http_svc.rest.values import failed, moment, word
from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InvalidInput, LensmeshError
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import from_status
from lensmesh_client.guard import building

_UINT32 = 2**32 - 1
State = Literal["pending", "running", "succeeded", "failed", "cancelled"]
Kind = Literal["duplicates", "calibrate", "rebuild", "delete"]
_KINDS = {
    "duplicates": search_pb2.JOB_KIND_FIND_DUPLICATES,
    "calibrate": search_pb2.JOB_KIND_CALIBRATE,
    "rebuild": search_pb2.JOB_KIND_REBUILD_INDEXES,
    "delete": search_pb2.JOB_KIND_DELETE_ITEMS,
}
_WORDS = {number: name for name, number in _KINDS.items()}


class JobsQuery(PageQuery):
    """Which jobs."""

    commas: ClassVar[frozenset[str]] = frozenset({"state"})

    collection: str = ""
    state: Annotated[list[State], Field(default_factory=list, description="With commas between them.")]
    kind: Kind | None = None


class TextOfImage(Asked):
    """A text about a stored image."""

    id: str
    text: str


class JobBody(Asked):
    """A job to begin, with the parameters of its kind."""

    kind: Kind
    collection: str = ""
    id: Annotated[str, Field(description="The job's id: a start that is sent again with it starts once.")] = ""
    filter: Annotated[
        dict[str, Any] | list[str] | str | None,
        Field(description=f"Of duplicates and delete (there it has to be set). {DESCRIPTION}"),
    ] = None
    max_distance: Annotated[int | None, Field(ge=0, le=_UINT32, description="Of duplicates: bits, 31 at most.")] = None
    spaces: Annotated[list[str], Field(default_factory=list, description="Of rebuild; of calibrate one at most.")]
    texts: Annotated[list[TextOfImage], Field(default_factory=list, description="Of calibrate: 20 to 256, or none.")]


_TAKES = {
    "duplicates": {"filter", "max_distance"},
    "calibrate": {"spaces", "texts"},
    "rebuild": {"spaces"},
    "delete": {"filter"},
}


class JobOperations:
    """/v1/jobs."""

    def __init__(self, context: RestContext) -> None:
        self._context = context

    async def list(self, request: Request) -> Response:
        """Show a page of jobs."""
        asked = read_query(request, JobsQuery)
        mesh = self._context.mesh
        with building("page"):
            message = search_pb2.ListJobsRequest(
                collection=asked.collection,
                states=[search_pb2.JobState.Value(f"JOB_STATE_{state.upper()}") for state in asked.state],
                kind=_KINDS[asked.kind] if asked.kind else search_pb2.JOB_KIND_UNSPECIFIED,
                page_size=asked.page_size,
                page_token=asked.page_token,
            )
        page = await mesh.call(mesh.search.ListJobs, message)
        answer: JobsShape = {"jobs": [job(each) for each in page.jobs], "next_page_token": page.next_page_token}
        return json_answer(request, answer)

    async def start(self, request: Request) -> Response:
        """Begin a job."""
        asked = await read_json(request, JobBody, self._context.settings)
        for field in ("filter", "max_distance", "spaces", "texts"):
            if field in asked.model_fields_set and field not in _TAKES[asked.kind]:
                raise InvalidInput(
                    Reason.OPTION_INVALID,
                    f"{field} is not of the kind {asked.kind}: leave it out",
                    field=field,
                )
        search = self._context.mesh.search
        collection = await self._context.known.collection(asked.collection)
        method: Any
        message: Any
        with building("job"):
            if asked.kind == "delete":
                method = search.StartDeleteItems
                message = search_pb2.StartDeleteItemsRequest(filter=filter_of(asked.filter))
            elif asked.kind == "rebuild":
                method = search.StartRebuildIndexes
                message = search_pb2.StartRebuildIndexesRequest(spaces=asked.spaces)
            elif asked.kind == "duplicates":
                method = search.StartFindDuplicates
                message = search_pb2.StartFindDuplicatesRequest(
                    filter=filter_of(asked.filter), max_distance=asked.max_distance
                )
            else:
                method = search.StartCalibrate
                message = await self._calibrate(asked, collection)
            message.collection, message.job_id = collection, asked.id
        return json_answer(request, job((await self._context.mesh.call(method, message)).job), 201)

    async def get(self, request: Request) -> Response:
        """Show one job."""
        read_query(request, NoQuery)
        mesh = self._context.mesh
        with building("id"):
            message = search_pb2.GetJobRequest(id=path_text(request, "id"))
        return json_answer(request, job((await mesh.call(mesh.search.GetJob, message)).job))

    async def cancel(self, request: Request) -> Response:
        """End a job that has not ended."""
        read_query(request, NoQuery)
        mesh = self._context.mesh
        with building("id"):
            message = search_pb2.CancelJobRequest(id=path_text(request, "id"))
        return json_answer(request, job((await mesh.call(mesh.search.CancelJob, message)).job))

    async def watch(self, request: Request) -> Response:
        """Tell of a job until it ends, as server-sent events."""
        read_query(request, NoQuery)
        mesh = self._context.mesh
        with building("id"):
            message = search_pb2.WatchJobRequest(id=path_text(request, "id"))
        return StreamedAnswer(_events(await begun(mesh.stream(mesh.search.WatchJob, message))), SSE)

    async def _calibrate(self, asked: JobBody, collection: str) -> search_pb2.StartCalibrateRequest:
        if len(asked.spaces) > 1:
            raise InvalidInput(Reason.OPTION_INVALID, "spaces names several: calibrate one at a time", field="spaces")
        name = asked.spaces[0] if asked.spaces else ""
        message = search_pb2.StartCalibrateRequest(space=name)
        if not asked.texts:
            return message
        mesh = self._context.mesh
        space = await self._context.known.named_space(collection, name)
        options = encoder_pb2.EncodeOptions(space_id=space.id, data_type=common_pb2.DATA_TYPE_FLOAT16)
        encode = encoder_pb2.EncodeTextsRequest(texts=[each.text for each in asked.texts], options=options)
        made = await mesh.call(mesh.encoder.EncodeTexts, encode)
        for number, (each, result) in enumerate(zip(asked.texts, made.results, strict=True)):
            if not result.HasField("embedding"):
                error = from_status(result.error)
                raise InvalidInput(error.reason, error.message, field=f"texts[{number}].text")
            message.texts.add(item_id=each.id, embedding=result.embedding)
        return message


async def _events(answers: AsyncIterator[search_pb2.WatchJobResponse]) -> AsyncIterator[bytes]:
    try:
        async for answer in answers:
            yield event(dump(job(answer.job)))
    except LensmeshError as error:
        yield failed_event(error)
    else:
        yield event(b"{}", "end")


def job(message: search_pb2.Job) -> JobShape:
    """Return a job."""
    return {
        "id": message.id,
        "kind": _WORDS.get(message.kind, ""),
        "collection": message.collection,
        "state": word(message.state, search_pb2.JobState, "JOB_STATE_"),
        "cancel_requested": message.cancel_requested,
        "done_count": message.done_count,
        "total_count": message.total_count,
        "units_per_second": message.units_per_second,
        "time_left_ms": message.time_left_ms if message.HasField("time_left_ms") else None,
        "message": message.message,
        "error": failed(message.error) if message.HasField("error") else None,
        "created_at": moment(message.create_time),
        "started_at": moment(message.start_time),
        "ended_at": moment(message.end_time),
        "result": _result(message),
    }


def _result(message: search_pb2.Job) -> dict[str, Any] | None:
    match message.WhichOneof("result"):
        case "delete_items_result":
            return {"deleted_count": message.delete_items_result.deleted_count}
        case "rebuild_indexes_result":
            rebuilt = message.rebuild_indexes_result
            return {"built_spaces": [*rebuilt.built_spaces], "unchanged_spaces": [*rebuilt.unchanged_spaces]}
        case "find_duplicates_result":
            found = message.find_duplicates_result
            return {
                "group_count": found.group_count,
                "item_count": found.item_count,
                "compared_count": found.compared_count,
                "skipped_count": found.skipped_count,
            }
        case "calibrate_result":
            return {"calibrations": [calibration(each) for each in message.calibrate_result.calibrations]}
    return None


_TAG = "jobs"
_ID = {"id": "The job's id."}
_BAD: dict[int, Any] = {400: FailureShape, 404: FailureShape}


def job_operations(context: RestContext) -> list[RestOperation]:
    """Return the operations."""
    own = JobOperations(context)
    return [
        RestOperation(
            "GET",
            "/v1/jobs",
            "listJobs",
            _TAG,
            "List jobs, newest first",
            own.list,
            parameters=JobsQuery,
            answers={200: JobsShape, 400: FailureShape},
            examples=(OperationExample("Those that run", query={"state": "pending,running"}),),
        ),
        RestOperation(
            "POST",
            "/v1/jobs",
            "startJob",
            _TAG,
            "Begin a job",
            own.start,
            body=JobBody,
            answers={201: JobShape, **_BAD, 409: FailureShape},
            examples=(OperationExample("Duplicates", json={"kind": "duplicates", "id": "look-1"}, status=201),),
        ),
        RestOperation(
            "GET",
            "/v1/jobs/{id}",
            "getJob",
            _TAG,
            "Show a job",
            own.get,
            path_parameters=_ID,
            answers={200: JobShape, **_BAD},
            examples=(OperationExample("One", path={"id": "look-1"}),),
        ),
        RestOperation(
            "GET",
            "/v1/jobs/{id}/events",
            "watchJob",
            _TAG,
            "Watch a job until it ends",
            own.watch,
            description="Each event is a job; `event: end` is the last one, `event: error` that the watching broke.",
            path_parameters=_ID,
            answers={200: JobShape, **_BAD},
            media_types=(SSE,),
            examples=(OperationExample("One", path={"id": "look-1"}),),
        ),
        RestOperation(
            "DELETE",
            "/v1/jobs/{id}",
            "cancelJob",
            _TAG,
            "Cancel a job",
            own.cancel,
            description="A job that has ended stays as it is.",
            path_parameters=_ID,
            answers={200: JobShape, **_BAD},
            examples=(OperationExample("One", path={"id": "look-1"}),),
        ),
    ]
