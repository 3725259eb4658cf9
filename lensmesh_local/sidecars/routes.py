"""Routes, read from the contracts: which call may be sent again, and what no proxy should answer for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import ServiceDescriptor

from lensmesh_chassis import contract
from lensmesh_chassis.limits import DEFAULT_MAX_MESSAGE_BYTES, transport_bytes

BUFFER_BYTES = transport_bytes(DEFAULT_MAX_MESSAGE_BYTES) + 64 * 1024
"""A request is kept until it is answered, so that it can be sent again; the channels of the mesh keep as much. What is
larger passes, but once only."""
LONGEST_STREAM = "86400s"
"""A stream sticks to one replica. Clients go on with a new one where this one ends, and lose nothing."""

_HEALTH_WATCH = "/grpc.health.v1.Health/Watch"

MODEL_SERVICES = ("encoder", "caption")
"""An image may end the process that works at it, and the next one to which the call is sent. What was lost with a
process is sent again, in parts, by the router alone."""

# Before the request has left, any call may be tried elsewhere.
_NOTHING_SENT = "connect-failure,refused-stream,reset-before-request"
# Not RESOURCE_EXHAUSTED: a mesh that has too much to do is not helped by more. Not DEADLINE_EXCEEDED: no time is left.
_REFUSED = f"{_NOTHING_SENT},unavailable"
_AWAY = f"{_REFUSED},reset"


def balanced(service: str, cluster: str) -> list[dict[str, Any]]:
    """Return the routes of a caller in the mesh to the replicas of `service`.

    Each call goes to one replica, and to another where that one is away. Watching health ends here: it would tell of
    one replica, and its caller would give up all the others with it. The answer UNIMPLEMENTED (HTTP 404 in gRPC's
    terms) makes gRPC's own clients go on without; Envoy checks health itself.
    """
    called = contract.service(service)
    by_models = service in MODEL_SERVICES
    once = [
        {"match": {"path": f"/{called.full_name}/{name}"}, "route": _to(cluster, _NOTHING_SENT)}
        for name in _sent_once(called)
    ]
    again = {"match": {"prefix": f"/{called.full_name}/"}, "route": _to(cluster, _REFUSED if by_models else _AWAY)}
    return [_no_watch(), *once, again, _anything_else(cluster)]


def from_outside(cluster: str) -> list[dict[str, Any]]:
    """Return the routes to the routers for callers from outside, each call to one of them.

    A call that a router may have begun is not sent again here. The caller's channel does that, and so do the router's
    channels and its Envoy behind. One more place would multiply their tries, when the mesh can bear it least.
    """
    return [_no_watch(), _anything_else(cluster)]


def by_content(routers: str, doors: str, origins: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return the routes of an edge: gRPC and gRPC-Web to the routers, and all else to the front doors.

    The content type tells them apart: the paths of the contracts are also those of the Connect protocol, which the
    doors answer. `origins`: whose pages may call by gRPC-Web although another server sent them. The doors decide about
    their own.
    """
    content = {"name": "content-type", "string_match": {"prefix": "application/grpc"}}
    # A browser asks first, without a content type.
    asks = [
        {"name": ":method", "string_match": {"exact": "OPTIONS"}},
        {"name": "access-control-request-headers", "string_match": {"contains": "x-grpc-web", "ignore_case": True}},
    ]
    calls = {**_anything_else(routers), **_cors(origins)}
    return [
        _no_watch(),
        {**calls, "match": {"prefix": "/", "headers": [content]}},
        {**calls, "match": {"prefix": "/lensmesh.", "headers": asks}},
        {"match": {"prefix": "/"}, "route": _to(doors, _NOTHING_SENT)},
    ]


def _cors(origins: tuple[str, ...]) -> dict[str, Any]:
    policy = {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy",
        "allow_origin_string_match": [{"exact": origin} for origin in origins],
        "allow_methods": "POST",
        "allow_headers": "content-type,x-grpc-web,x-user-agent,grpc-timeout,traceparent,x-request-id",
        "expose_headers": "grpc-status,grpc-message,grpc-status-details-bin,lensmesh-trace-id,x-request-id",
        "max_age": "600",
    }
    return {"typed_per_filter_config": {"envoy.filters.http.cors": policy}} if origins else {}


def to_the_one_beside(cluster: str) -> list[dict[str, Any]]:
    """Return a route to the service that this Envoy stands beside.

    If it is away, the caller's Envoy tries elsewhere.
    """
    return [{"match": {"prefix": "/"}, "route": _route(cluster)}]


def _sent_once(service: ServiceDescriptor) -> Iterator[str]:
    """Yield the methods that may not be repeated: where the contract says so, and where requests are streamed.

    Nobody knows how much of a stream was done.
    """
    for method in service.methods:
        if not contract.may_be_sent_again(method):
            yield method.name


def _no_watch() -> dict[str, Any]:
    return {"match": {"path": _HEALTH_WATCH}, "direct_response": {"status": 404}}


def _anything_else(cluster: str) -> dict[str, Any]:
    return {"match": {"prefix": "/"}, "route": _to(cluster, _NOTHING_SENT)}


def _to(cluster: str, retry_on: str) -> dict[str, Any]:
    policy = {
        "retry_on": retry_on,
        "num_retries": 3,
        "retry_back_off": {"base_interval": "0.1s", "max_interval": "1s"},
        "retry_host_predicate": [
            {
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
                },
            }
        ],
        "host_selection_retry_max_attempts": 5,
    }
    return {**_route(cluster), "retry_policy": policy}


def _route(cluster: str) -> dict[str, Any]:
    # Envoy's own limit of 15 s for a whole answer would end every stream; deadlines are gRPC's.
    return {"cluster": cluster, "timeout": "0s", "max_stream_duration": {"max_stream_duration": LONGEST_STREAM}}
