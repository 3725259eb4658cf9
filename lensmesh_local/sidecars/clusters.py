"""Destinations of calls: the service beside, or the replicas of another one, balanced, health-checked and ejected."""

from __future__ import annotations

import ipaddress
from typing import Any

from lensmesh_chassis import contract
from lensmesh_local.sidecars.model import HTTP, HostPort, Sidecar
from lensmesh_local.sidecars.secrets import HTTP1, HTTP2, client_side

STREAM_WINDOW_BYTES = 1024 * 1024
CONNECTION_WINDOW_BYTES = 16 * 1024 * 1024
"""Bytes one side may send ahead: Envoy's default of hundreds of megabytes would hide a slow mesh from its sender."""

# Services answer pings that come twice as often with GOAWAY: lensmesh_chassis/channels.py.
_KEEPALIVE = {"interval": "30s", "timeout": "10s"}

_DNS = "type.googleapis.com/envoy.extensions.clusters.dns.v3.DnsCluster"
_HTTP = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def http2(**more: Any) -> dict[str, Any]:
    """Return HTTP/2 settings for either side."""
    return {
        "initial_stream_window_size": STREAM_WINDOW_BYTES,
        "initial_connection_window_size": CONNECTION_WINDOW_BYTES,
        **more,
    }


def beside(name: str, service: str, place: HostPort) -> dict[str, Any]:
    """Return the cluster of the one service that this Envoy stands beside, in plain text over the loopback."""
    return {**_cluster(name, service, (place,)), "circuit_breakers": _breakers()}


def replicas(name: str, service: str, places: tuple[HostPort, ...], sidecar: Sidecar, identity: str) -> dict[str, Any]:
    """Return the cluster of every replica of `service`.

    Calls go to those replicas that say SERVING and do not fail again and again.
    """
    cluster = _cluster(name, service, places)
    cluster |= {
        "lb_policy": "LEAST_REQUEST",
        # With none healthy a call fails at once, and says so; Envoy's default would try the sick ones.
        # What a health check finds counts at once: by default Envoy collects such news for a second.
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}, "update_merge_window": "0s"},
        "health_checks": [
            {
                **_health(service),
                "interval": "1s",
                "timeout": "3s",
                "no_traffic_interval": "1s",
                "unhealthy_threshold": 2,
                "healthy_threshold": 1,
            }
        ],
        "outlier_detection": {
            # What a replica answers counts apart from connections that break. Only UNAVAILABLE and its like count: an
            # error in a model's work is no reason to take a replica out, and RESOURCE_EXHAUSTED even less.
            "split_external_local_origin_errors": True,
            "consecutive_gateway_failure": 5,
            "enforcing_consecutive_gateway_failure": 100,
            "consecutive_local_origin_failure": 3,
            "enforcing_consecutive_local_origin_failure": 100,
            "enforcing_consecutive_5xx": 0,
            "enforcing_success_rate": 0,
            "enforcing_local_origin_success_rate": 0,
            "interval": "1s",
            "base_ejection_time": "5s",
            "max_ejection_time": "60s",
            # Never all: a store that is away makes every Search replica answer UNAVAILABLE, and none is to blame.
            "max_ejection_percent": 50,
        },
        "circuit_breakers": _breakers(),
    }
    if identity:
        cluster["transport_socket"] = client_side(sidecar, identity, HTTP1 if service == HTTP else HTTP2)
    return cluster


def _health(service: str) -> dict[str, Any]:
    """Return how health is asked: the front door answers on its own port by HTTP."""
    if service == HTTP:
        return {"http_health_check": {"path": "/readyz"}}
    return {"grpc_health_check": {"service_name": contract.service(service).full_name}}


def _cluster(name: str, service: str, places: tuple[HostPort, ...]) -> dict[str, Any]:
    named = any(not _is_address(place.host) for place in places)
    endpoints = [
        {"endpoint": {"address": {"socket_address": {"address": place.host, "port_value": place.port}}}}
        for place in places
    ]
    cluster: dict[str, Any] = {
        "name": name,
        "connect_timeout": "2s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": _HTTP,
                # Certificates count in handshakes alone: what was renewed or taken away counts within the hour.
                "common_http_protocol_options": {"max_connection_duration": "3600s"},
                "explicit_http_config": (
                    {"http_protocol_options": {}}
                    if service == HTTP
                    else {
                        "http2_protocol_options": http2(max_concurrent_streams=10_000, connection_keepalive=_KEEPALIVE)
                    }
                ),
            }
        },
    }
    if named:
        # A name, that of a headless Kubernetes service, has an address for each replica: all of them are used.
        names = {"@type": _DNS, "dns_refresh_rate": "2s", "dns_lookup_family": "ALL"}
        cluster["cluster_type"] = {"name": "envoy.clusters.dns", "typed_config": names}
    else:
        cluster["type"] = "STATIC"
    return cluster


def _breakers() -> dict[str, Any]:
    # Overload is the services' to say, by RESOURCE_EXHAUSTED with a time to wait; Envoy's own breaker would say
    # UNAVAILABLE. Of retries it allows three at a time, which one lost replica exceeds.
    return {
        "thresholds": [
            {
                "max_connections": 10_000,
                "max_pending_requests": 10_000,
                "max_requests": 10_000,
                "retry_budget": {"budget_percent": {"value": 25}, "min_retry_concurrency": 100},
            }
        ]
    }


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
