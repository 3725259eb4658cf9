"""A client interceptor that passes the request id on."""

from typing import Any

import grpc

from lensmesh_chassis.contract import REQUEST_ID_KEY
from lensmesh_chassis.rpc.client_interceptor import ClientInterceptor
from lensmesh_chassis.rpc.request_id import request_id


class RequestIdForwarding(ClientInterceptor):
    """Puts the id of the call that is served now into the metadata of each call made for it."""

    async def make_call(self, shape: str, continuation: Any, details: Any, request: Any) -> Any:
        return await continuation(_forwarded(details), request)


def _forwarded(details: Any) -> Any:
    current = request_id.get()
    if not current:
        return details
    metadata = grpc.aio.Metadata(*(details.metadata or ()))
    if metadata.get(REQUEST_ID_KEY) is None:
        metadata.add(REQUEST_ID_KEY, current)
    return grpc.aio.ClientCallDetails(
        details.method, details.timeout, metadata, details.credentials, details.wait_for_ready
    )
