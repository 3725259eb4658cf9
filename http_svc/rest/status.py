"""The mesh for people: its services, what they run, what one request may hold."""

from starlette.requests import Request
from starlette.responses import Response

from http_svc.answers import json_answer
from http_svc.rest.asked import read_query
from http_svc.rest.collections import NoQuery
from http_svc.rest.context import RestContext
from http_svc.rest.operations import OperationExample, RestOperation
from http_svc.rest.shapes import LimitsShape, ModelShape, ServiceShape, StatusShape
from http_svc.rest.values import moment, word
from lensmesh.common.v1 import common_pb2
from lensmesh.router.v1 import router_pb2


class StatusOperations:
    """GET /v1/status."""

    def __init__(self, context: RestContext) -> None:
        self._context = context

    async def status(self, request: Request) -> Response:
        """Tell how the mesh is now."""
        read_query(request, NoQuery)
        mesh = self._context.mesh
        answer = await mesh.call(mesh.router.GetStatus, router_pb2.GetStatusRequest())
        return json_answer(request, mesh_status(answer, self._context.settings.trace_url))


def mesh_status(message: router_pb2.GetStatusResponse, trace_url: str) -> StatusShape:
    """Return the status of a mesh, and where its traces are shown."""
    media = message.media
    return {
        "version": message.server.version,
        "default_collection": message.default_collection,
        "services": [_service(each) for each in message.services],
        "limits": _limits(message.limits),
        "media": {
            "thumbnails": media.thumbnails,
            "originals": media.originals,
            "thumbnail_px": media.thumbnail_px,
            "trouble": media.trouble,
        },
        "trace_url": trace_url or None,
    }


def _service(message: router_pb2.ServiceStatus) -> ServiceShape:
    return {
        # "encoder" of lensmesh.encoder.v1.EncoderService.
        "kind": message.name.removeprefix("lensmesh.").partition(".")[0],
        "address": message.address,
        "health": word(message.health, router_pb2.Health, "HEALTH_") or "unknown",  # type: ignore[typeddict-item]  # a word
        "reason": message.reason,
        "version": message.server.version,
        "instance": message.server.instance,
        "started_at": moment(message.server.start_time),
        "memory_bytes": message.server.memory_bytes,
        "store": message.store,
        "models": [_model(each) for each in message.models],
    }


def _model(message: common_pb2.ModelInfo) -> ModelShape:
    return {
        "name": message.name,
        "kind": word(message.kind, common_pb2.ModelKind, "MODEL_KIND_"),
        "backend": message.backend,
        "precision": message.precision,
        "devices": [
            {
                "id": each.id,
                "name": each.name,
                "memory_total_bytes": each.memory_total_bytes,
                "memory_used_bytes": each.memory_used_bytes,
            }
            for each in message.devices
        ],
    }


def _limits(message: common_pb2.Limits) -> LimitsShape:
    return {
        "max_message_bytes": message.max_message_bytes,
        "max_items": message.max_items,
        "max_image_bytes": message.max_image_bytes,
        "max_image_pixels": message.max_image_pixels,
        "max_text_chars": message.max_text_chars,
        "max_page_size": message.max_page_size,
        "max_hits": message.max_hits,
        "max_offset": message.max_offset,
        "max_labels": message.max_labels,
        "uri_schemes": list(message.uri_schemes),
    }


def status_operations(context: RestContext) -> list[RestOperation]:
    """Return the operations."""
    own = StatusOperations(context)
    return [
        RestOperation(
            "GET",
            "/v1/status",
            "getStatus",
            "status",
            "Tell how the mesh is",
            own.status,
            answers={200: StatusShape},
            examples=(OperationExample("Now"),),
        )
    ]
