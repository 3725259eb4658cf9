"""The methods of the contracts, as their descriptors tell them: nothing is written by hand for any one of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.message import Message

from lensmesh_chassis import contract


@dataclass(frozen=True, slots=True)
class ConnectMethod:
    """A method of a contract: its path, its messages, and what calls it with bytes and answers with bytes."""

    path: str
    """As in "/lensmesh.router.v1.RouterService/Search"."""
    request: type[Message]
    response: type[Message]
    client_streams: bool
    server_streams: bool
    safe: bool
    """True where it changes nothing, so that GET may ask for it."""
    call: Any
    """On a channel: takes a serialized request and answers with serialized responses."""


def connect_methods(channel: grpc.aio.Channel) -> Mapping[str, ConnectMethod]:
    """Return all methods that a router serves, by path."""
    found = {}
    for service in contract.services():
        for method in service.methods:
            path = f"/{service.full_name}/{method.name}"
            make: Any = channel.unary_stream if method.server_streaming else channel.unary_unary
            found[path] = ConnectMethod(
                path,
                message_factory.GetMessageClass(method.input_type),
                message_factory.GetMessageClass(method.output_type),
                method.client_streaming,
                method.server_streaming,
                method.GetOptions().idempotency_level == MethodOptions.NO_SIDE_EFFECTS,
                None if method.client_streaming else make(path),
            )
    return found
