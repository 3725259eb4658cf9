"""Messages to send, and what answers say."""

from collections.abc import Awaitable, Iterable
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from lensmesh.router.v1 import router_pb2
from lensmesh_chassis.contract import DETAILS_KEY
from lensmesh_chassis.errors import LensmeshError
from lensmesh_chassis.rpc.status import GRPC_CODES, from_rpc_error, to_status


def item(ref: str, content: bytes | None = None, **fields: Any) -> router_pb2.IngestItem:
    """One image; its content is its ref unless given."""
    made = router_pb2.IngestItem(ref=ref, **fields)
    made.image.content = ref.encode() if content is None else content
    return made


def request(items: Iterable[router_pb2.IngestItem], **options: Any) -> router_pb2.IngestStreamRequest:
    """One message of a stream."""
    return router_pb2.IngestStreamRequest(
        options=router_pb2.IngestOptions(**options) if options else None, items=list(items)
    )


def reason_of(status: status_pb2.Status) -> str:
    """ErrorInfo.reason of a status."""
    info = error_details_pb2.ErrorInfo()
    assert any(detail.Unpack(info) for detail in status.details if detail.Is(info.DESCRIPTOR))
    return str(info.reason)


def retry_s(status: status_pb2.Status) -> float | None:
    """RetryInfo of a status."""
    retry = error_details_pb2.RetryInfo()
    for detail in status.details:
        if detail.Unpack(retry):
            return float(retry.retry_delay.ToTimedelta().total_seconds())
    return None


def fields_of(status: status_pb2.Status) -> list[str]:
    """Paths that a status complains about."""
    bad = error_details_pb2.BadRequest()
    for detail in status.details:
        if detail.Unpack(bad):
            return [violation.field for violation in bad.field_violations]
    return []


async def error_of(call: Awaitable[Any]) -> LensmeshError:
    """The typed error that a call fails with."""
    with pytest.raises(grpc.RpcError) as caught:
        await call
    return from_rpc_error(caught.value)


def rpc_error(error: LensmeshError) -> grpc.aio.AioRpcError:
    """What a stub raises where a service of the mesh raised `error`."""
    status = to_status(error)
    details = grpc.aio.Metadata((DETAILS_KEY, status.SerializeToString()))
    return grpc.aio.AioRpcError(GRPC_CODES[status.code], grpc.aio.Metadata(), details, status.message)
