"""Client interceptors that pass the request id on. gRPC wants one class for each of the four shapes."""

from typing import Any

import grpc

from lensmesh_chassis.rpc.request_id import REQUEST_ID_KEY, request_id


def request_id_interceptors() -> tuple[grpc.aio.ClientInterceptor, ...]:
    """One for each shape: gRPC puts a class that has several shapes under the first only."""
    return (_UnaryUnary(), _UnaryStream(), _StreamUnary(), _StreamStream())


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


class _UnaryUnary(grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(_forwarded(client_call_details), request)


class _UnaryStream(grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(_forwarded(client_call_details), request)


class _StreamUnary(grpc.aio.StreamUnaryClientInterceptor):
    async def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await continuation(_forwarded(client_call_details), request_iterator)


class _StreamStream(grpc.aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await continuation(_forwarded(client_call_details), request_iterator)
