"""Facts that the contracts and their pages fix: services and methods, ports, keys of a call's metadata."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

PORTS: Final = {"router": 50050, "encoder": 50051, "caption": 50052, "search": 50053}
"""The ports that services take where no setting says another, by the service's name."""
HTTP_PORT: Final = 50054
"""The port of the front door, which speaks HTTP and has no contract of its own."""
REQUEST_ID_KEY: Final = "x-request-id"
"""Carries the id of a call through the mesh."""
TRACE_ID_KEY: Final = "lensmesh-trace-id"
"""In the trailing metadata of a call whose trace is kept: 32 hexadecimal digits."""
DETAILS_KEY: Final = "grpc-status-details-bin"
"""Carries a `google.rpc.Status` beside an error's code."""


def local_address(service: str) -> str:
    """Return "host:port" of a service on this machine, on its usual port."""
    return f"127.0.0.1:{PORTS[service]}"


@functools.cache
def services() -> tuple[ServiceDescriptor, ...]:
    """Return the services of all contracts."""
    from lensmesh.caption.v1 import caption_pb2
    from lensmesh.encoder.v1 import encoder_pb2
    from lensmesh.router.v1 import router_pb2
    from lensmesh.search.v1 import search_pb2

    files = (caption_pb2, encoder_pb2, router_pb2, search_pb2)
    return tuple(service for file in files for service in file.DESCRIPTOR.services_by_name.values())


def service(name: str) -> ServiceDescriptor:
    """Return the contract of "router", "encoder", "caption" or "search"."""
    return next(each for each in services() if each.file.package == f"lensmesh.{name}.v1")


def may_be_sent_again(method: MethodDescriptor) -> bool:
    """Tell whether gRPC or a proxy may send a call again by itself.

    The contract says so by `idempotency_level`. Methods that stream requests are left out: nobody knows how much of a
    stream was done. Whoever sends it resumes it itself, and retries would multiply those of the sender, unseen.
    """
    from google.protobuf.descriptor_pb2 import MethodOptions

    repeatable = (MethodOptions.NO_SIDE_EFFECTS, MethodOptions.IDEMPOTENT)
    return not method.client_streaming and method.GetOptions().idempotency_level in repeatable
