"""The one factory of gRPC channels: balanced, retried, kept alive, limited and traced."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import ServiceDescriptor

from lensmesh_chassis import contract
from lensmesh_chassis.limits import DEFAULT_MAX_MESSAGE_BYTES, transport_bytes
from lensmesh_chassis.rpc.client_calls import ClientInterceptor, InterceptedChannel
from lensmesh_chassis.rpc.forwarding import RequestIdForwarding
from lensmesh_chassis.telemetry import tracing
from lensmesh_chassis.tls.credentials import ChannelSecurity, channel_credentials

if TYPE_CHECKING:  # a client counts nothing, and loads nothing to count with
    from lensmesh_chassis.telemetry.client_metrics import ClientMetrics

__all__ = ["DIRECT", "OWN_CONNECTIONS", "ChannelSecurity", "open_channel", "remaining_s", "service_config"]

# Half a mesh hop is what it takes to tell a caller that its time is up; below the floor a call is not worth sending.
_MARGIN_S = 0.02
_FLOOR_S = 0.001

# A server sends GOAWAY to clients that ping faster than it allows: server_options() allows twice as fast.
_KEEPALIVE_MS = 20_000
_KEEPALIVE_TIMEOUT_MS = 10_000
# How long a connection may take to open: some round trips with TLS over a long way, or a process that is busy.
_CONNECT_MS = 5_000

KEEPALIVE_SECONDS = (_KEEPALIVE_MS + _KEEPALIVE_TIMEOUT_MS) / 1000
"""Of a process that answers nothing any more (stopped, or its machine gone) a channel knows after so long at most: the
connection ends, and with it every call on it."""

# What a client may send of each call, and of each connection, that nobody has asked for.
_WINDOW_BYTES = 32 * 1024

# gRPC takes the proxy that `http_proxy` names even to 127.0.0.1, and through one it meets a single replica of a name.
DIRECT = ("grpc.enable_http_proxy", 0)

# gRPC shares connections between channels of one process that are alike, and with them the wait after one that failed:
# the first call of a fresh channel would fail at once because another channel met nobody at that address a moment ago.
# Even a closed one counts, for as long as anything holds one of its calls, and a traceback does.
OWN_CONNECTIONS = ("grpc.use_local_subchannel_pool", 1)

_LOOPBACK = re.compile(r"(localhost|127(\.\d+){3}|\[::1\])(:\d+)?")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:(//|[^0-9])|ipv[46]:|unix(-abstract)?:")

_MethodOptions = descriptor_pb2.MethodOptions


def open_channel(
    target: str,
    *,
    security: ChannelSecurity | None = None,
    max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES,
    health_check: str = "",
    instrument: bool = True,
    services: Sequence[ServiceDescriptor] | None = None,
    tracer_provider: Any | None = None,
    authority: str = "",
    metrics: "ClientMetrics | None" = None,
    proxied: bool = False,
) -> grpc.aio.Channel:
    """Open a channel to `target`: "host:port", "dns:///host:port" or "unix:/path".

    Calls go round robin over all addresses of the name. Methods that their contract declares free of side effects or
    idempotent are sent again on UNAVAILABLE, within a budget, unless they stream requests. To be called on the event
    loop; the caller closes the channel.

    `health_check`: full name of the service whose grpc.health.v1 status decides which replicas are used. "" checks
    none, which is what a status display needs: a checked channel cannot reach a sick replica. `services`: descriptors
    whose methods may be sent again; None means all of lensmesh. `instrument`: pass the trace on, with spans by
    `tracer_provider` (None: the process' own, if any). `authority`: the name that the server's certificate is made for,
    where `target` is one address of it. `metrics` counts the calls. `proxied`: use the proxy that the environment names
    (`https_proxy`, `http_proxy`, `no_proxy`). A client may need one; services never use one between each other. Calls
    to this machine itself never take it.
    """
    limit = transport_bytes(max_message_bytes)
    options: list[tuple[str, Any]] = [
        ("grpc.service_config", service_config(services, health_check)),
        ("grpc.enable_retries", 1),
        # Room for the largest message and its frame: gRPC gives up retrying a request that does not fit (default 256
        # KiB).
        ("grpc.per_rpc_retry_buffer_size", limit + 64 * 1024),
        ("grpc.max_receive_message_length", limit),
        ("grpc.max_send_message_length", limit),
        ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
        # Each ping has a time-out of its own as well, a minute by default, and it is that one which ends a connection.
        ("grpc.http2.ping_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        # A replica that comes back is found within seconds, not after gRPC's two minutes of back-off.
        ("grpc.initial_reconnect_backoff_ms", 200),
        # Despite its name this is what one attempt is given; the next one follows by the back-off.
        ("grpc.min_reconnect_backoff_ms", _CONNECT_MS),
        # In a rolling update the next replica goes a few seconds after this one came back.
        ("grpc.max_reconnect_backoff_ms", 1_000),
        ("grpc.dns_min_time_between_resolutions_ms", 1_000),
        # A TXT record of the name must not change how calls are made.
        ("grpc.service_config_disable_resolution", 1),
        OWN_CONNECTIONS,
    ]
    address = _dialled(target)
    if not proxied or _is_loopback(address):
        options.append(DIRECT)
    if authority:
        options += [("grpc.default_authority", authority), ("grpc.ssl_target_name_override", authority)]
    interceptors: list[ClientInterceptor] = [RequestIdForwarding()]
    if instrument:
        interceptors[:0] = tracing.client_interceptors(tracer_provider or tracing.active_provider(), target)
    if metrics is not None:
        # Innermost: the call's own span is known then.
        interceptors.append(metrics)
    channel = (
        grpc.aio.secure_channel(address, channel_credentials(security), options)
        if security is not None and security.encrypted
        else grpc.aio.insecure_channel(address, options)
    )
    return InterceptedChannel(channel, interceptors)


@dataclass(frozen=True, slots=True)
class Connections:
    """Bounds of one server's connections: how many, calls on each, and seconds each may live and idle; 0: no bound."""

    most: int = 0
    calls_each: int = 0
    age_s: float = 0.0
    idle_s: float = 0.0


def server_options(max_message_bytes: int, connections: Connections | None = None) -> list[tuple[str, Any]]:
    """Return gRPC's options for a server: the counterpart of what open_channel sets, and the server's bounds."""
    limit, connections = transport_bytes(max_message_bytes), connections or Connections()
    # Calls and streams that are on an old connection end there in their own time: gRPC's grace is endless by default.
    chosen = {
        "grpc.max_connection_age_ms": int(connections.age_s * 1000),
        "grpc.max_connection_idle_ms": int(connections.idle_s * 1000),
        "grpc.max_allowed_incoming_connections": connections.most,
        # Calls beyond it wait in the client, where they cost the server nothing.
        "grpc.max_concurrent_streams": connections.calls_each,
    }
    return [
        *((name, value) for name, value in chosen.items() if value),
        # Otherwise a second process on the same port is accepted in silence and takes half the calls.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", limit),
        ("grpc.max_send_message_length", limit),
        # Otherwise calls beyond `calls_each` end as UNAVAILABLE, also those that came before the client knew the
        # number, or while the server still ends others.
        ("grpc.http.overload_protection", 0),
        # gRPC unpacks a message before it counts its bytes: 40 KB become 40 MB. Callers hear UNIMPLEMENTED.
        ("grpc.compression_enabled_algorithms_bitset", 1),
        # A call holds this much before its message is asked for. The probe would let it grow to megabytes for each.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", _WINDOW_BYTES),
        # Calls that arrive while the event loop is busy wait in gRPC; beyond the first number it drops some of them, as
        # CANCELLED and in silence. Ours are refused with a reason, which takes well below a millisecond each.
        ("grpc.server.max_pending_requests", 8 * 1024),
        ("grpc.server.max_pending_requests_hard_limit", 16 * 1024),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", _KEEPALIVE_MS // 2),
        ("grpc.keepalive_time_ms", 3 * _KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
        ("grpc.http2.ping_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
    ]


def service_config(services: Sequence[ServiceDescriptor] | None = None, health_check: str = "") -> str:
    """Build gRPC's service config as JSON: round robin, health checks if asked for, retries of what may be repeated.

    Methods that stream requests are left out: whoever sends a stream resumes it itself. Its own retries would be
    multiplied by gRPC's, unseen.
    """
    config: dict[str, Any] = {"loadBalancingConfig": [{"round_robin": {}}]}
    if health_check:
        config["healthCheckConfig"] = {"serviceName": health_check}
    methods = [
        {"service": service.full_name, "method": method.name}
        for service in (contract.services() if services is None else services)
        for method in service.methods
        if contract.may_be_sent_again(method)
    ]
    if methods:
        config["methodConfig"] = [
            {
                "name": methods,
                "retryPolicy": {
                    "maxAttempts": 4,
                    "initialBackoff": "0.1s",
                    "maxBackoff": "1s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
        # A mesh in trouble is not helped by four times the calls: each failure costs a token, ten successes earn one.
        config["retryThrottling"] = {"maxTokens": 100, "tokenRatio": 0.1}
    return json.dumps(config)


def remaining_s(context: Any, default_s: float) -> float:
    """Return the seconds to give to a call made for this one.

    That is the time that this call's caller has left, less a small margin; `default_s` where the caller set no
    deadline.
    """
    left = context.time_remaining()
    return default_s if left is None else max(_FLOOR_S, left - _MARGIN_S)


def _dialled(target: str) -> str:
    return target if _SCHEME.match(target) else f"dns:///{target}"


def _is_loopback(address: str) -> bool:
    hosts = re.sub(r"^(dns:///|ipv[46]:)", "", address).split(",")
    return all(_LOOPBACK.fullmatch(host) for host in hosts)
