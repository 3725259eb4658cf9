"""Listeners for calls: by mutual TLS from the mesh, in plain text from the service beside, by TLS from outside."""

from __future__ import annotations

from typing import Any

from lensmesh_local.sidecars import routes
from lensmesh_local.sidecars.clusters import http2
from lensmesh_local.sidecars.model import HTTP, Edge, Egress, HostPort, Inbound, Sidecar
from lensmesh_local.sidecars.secrets import HTTP1, HTTP2, public_side, server_side

_FILTERS = "type.googleapis.com/envoy.extensions.filters."
# Who connects and says nothing gives the place back; else a few thousand of them would keep everybody else out.
_HANDSHAKE = "10s"
_LOGGED = {
    "time": "%START_TIME%",
    "listener": "%ROUTE_NAME%",
    "method": "%REQ(:PATH)%",
    "grpc_status": "%GRPC_STATUS%",
    "why": "%RESPONSE_FLAGS%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "ms": "%DURATION%",
    "upstream": "%UPSTREAM_HOST%",
    "caller": "%DOWNSTREAM_PEER_URI_SAN%",
    "traceparent": "%REQ(TRACEPARENT)%",
    "request_id": "%REQ(X-REQUEST-ID)%",
}


def inbound_listener(sidecar: Sidecar, inbound: Inbound) -> dict[str, Any]:
    """Return the listener for the named callers alone, by mutual TLS, to the service beside."""
    name = f"inbound_{inbound.service}"
    by_http = inbound.service == HTTP
    chain = {
        "transport_socket": server_side(sidecar, inbound.callers, HTTP1 if by_http else HTTP2),
        "transport_socket_connect_timeout": _HANDSHAKE,
        "filters": [
            _http(
                name,
                routes.to_the_one_beside(name),
                tells_ends=inbound.service in routes.MODEL_SERVICES,
                websockets=by_http,
            )
        ],
    }
    return _listener(name, inbound.listen, chain)


def egress_listener(egress: Egress) -> dict[str, Any]:
    """Return the listener in plain text for the service beside, over the loopback, to the replicas of another one."""
    name = f"egress_{egress.service}"
    chain = {"filters": [_http(name, routes.balanced(egress.service, name))]}
    return _listener(name, egress.listen, chain, for_everybody=False)


def edge_listener(sidecar: Sidecar, edge: Edge) -> dict[str, Any]:
    """Return the listener for calls from outside, by TLS, to the routers, and of requests to the front doors."""
    name, both = "edge", bool(edge.doors)
    table = routes.by_content(name, "doors", edge.origins) if both else routes.from_outside(name)
    filters = [_http(name, table, age_s=edge.connection_age_s, web=both, websockets=both)]
    chain = {
        # A WebSocket begins by HTTP/1.1, and so do programs that know nothing else.
        "transport_socket": public_side(sidecar, HTTP2, *([HTTP1] if both else [])),
        "transport_socket_connect_timeout": _HANDSHAKE,
        "filters": filters,
    }
    return _listener(name, edge.listen, chain)


def metrics_listener(listen: HostPort, cluster: str) -> dict[str, Any]:
    """Return the listener that shows two of Envoy's own pages, and none of those that change it."""
    paths = [
        {"match": {"path": path, "headers": [{"name": ":method", "string_match": {"exact": "GET"}}]},
         "route": {"cluster": cluster}}
        for path in ("/ready", "/stats/prometheus")
    ]  # fmt: skip
    return _listener("metrics", listen, {"filters": [_http("metrics", paths, logged=False)]}, for_everybody=False)


def _listener(name: str, listen: HostPort, chain: dict[str, Any], *, for_everybody: bool = True) -> dict[str, Any]:
    made = {
        "name": name,
        "address": {"socket_address": {"address": listen.host, "port_value": listen.port}},
        "per_connection_buffer_limit_bytes": 1024 * 1024,
        "filter_chains": [chain],
    }
    if not for_everybody:
        # What a flood of strangers uses up shall neither cut off the service beside nor make probes kill this Envoy.
        made["ignore_global_conn_limit"] = True
    return made


def _http(
    name: str,
    table: list[dict[str, Any]],
    *,
    age_s: int = 0,
    logged: bool = True,
    tells_ends: bool = False,
    web: bool = False,
    websockets: bool = False,
) -> dict[str, Any]:
    """Return the filter that handles the HTTP connections of a listener.

    `age_s`: for callers from outside, how long a connection of theirs takes new calls. `tells_ends`: whether a call
    that was lost with the process beside is told apart from one that it did not take. `web`: whether gRPC-Web of
    browsers becomes gRPC.
    """
    outside = age_s > 0
    manager: dict[str, Any] = {
        "@type": f"{_FILTERS}network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        # What a stranger writes into Envoy's own headers does not count.
        "use_remote_address": outside,
        "http2_protocol_options": http2(
            max_concurrent_streams=1_000 if outside else 10_000,
            connection_keepalive={"interval": "60s", "timeout": "20s"},
        ),
        "request_headers_timeout": "10s",
        # A stream may wait as long as its caller likes; keepalive finds those whose caller is gone.
        "stream_idle_timeout": "0s",
        # Both ids are the mesh's own: the chassis makes what is missing.
        "generate_request_id": False,
        "preserve_external_request_id": True,
        "server_header_transformation": "PASS_THROUGH",
        "http_filters": [
            *(_web_filters() if web else ()),
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_FILTERS}http.router.v3.Router", "suppress_envoy_headers": True},
            },
        ],
        "route_config": {
            "name": name,
            "virtual_hosts": [
                {
                    "name": name,
                    "domains": ["*"],
                    "request_body_buffer_limit": routes.BUFFER_BYTES,
                    "routes": [{"name": name, **route} for route in table],
                }
            ],
        },
    }
    if outside:
        # An Envoy that is told to end says no farewell, and cuts what is under way. So each connection is bid farewell
        # (GOAWAY) at this age, and callers have moved to another edge before this one ends, if it waits as long. Envoy
        # takes new calls on it for 5 s more (drain_timeout), and closes it when the last one there has ended.
        manager["common_http_protocol_options"] = {"max_connection_duration": f"{age_s}s"}
    if websockets:
        manager["upgrade_configs"] = [{"upgrade_type": "websocket"}]
    if tells_ends:
        # UNKNOWN in gRPC's terms, where UNAVAILABLE would be sent to the next replica by the caller's Envoy.
        ended = {"filter": {"response_flag_filter": {"flags": ["UC"]}}, "status_code": 500}
        manager["local_reply_config"] = {"mappers": [ended]}
    if logged:
        manager["access_log"] = [_log_of_failures()]
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}


def _web_filters() -> list[dict[str, Any]]:
    """Return what stands before the router of calls: answers to browsers that ask first (CORS), and gRPC-Web."""
    names = {"cors": "cors.v3.Cors", "grpc_web": "grpc_web.v3.GrpcWeb"}
    return [
        {"name": f"envoy.filters.http.{name}", "typed_config": {"@type": f"{_FILTERS}http.{kind}"}}
        for name, kind in names.items()
    ]


def _log_of_failures() -> dict[str, Any]:
    """Return an access log with one line of JSON for each call that did not end well.

    The services log the other calls, and Envoy counts all.
    """
    failed = {"grpc_status_filter": {"statuses": ["OK"], "exclude": True}}
    # Health is asked every second, and away for good reasons often.
    call = {"name": ":path", "string_match": {"prefix": "/grpc."}, "invert_match": True}
    return {
        "name": "envoy.access_loggers.stdout",
        "filter": {"and_filter": {"filters": [failed, {"header_filter": {"header": call}}]}},
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
            "log_format": {"json_format": _LOGGED},
        },
    }
