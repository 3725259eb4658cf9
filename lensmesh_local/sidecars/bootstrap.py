"""The whole configuration of one Envoy, made from the description of what it does."""

from __future__ import annotations

from typing import Any

from lensmesh_local.sidecars.clusters import beside, replicas
from lensmesh_local.sidecars.listeners import edge_listener, egress_listener, inbound_listener, metrics_listener
from lensmesh_local.sidecars.model import HTTP, HostPort, Sidecar

_ADMIN = "admin"


def bootstrap(sidecar: Sidecar) -> dict[str, Any]:
    """Return the file that `envoy --config-path` takes, as values that JSON and YAML can hold."""
    listeners: list[dict[str, Any]] = []
    clusters: list[dict[str, Any]] = []
    if inbound := sidecar.inbound:
        listeners.append(inbound_listener(sidecar, inbound))
        clusters.append(beside(f"inbound_{inbound.service}", inbound.service, inbound.to))
    for egress in sidecar.egress:
        listeners.append(egress_listener(egress))
        name = f"egress_{egress.service}"
        clusters.append(replicas(name, egress.service, egress.replicas, sidecar, egress.identity))
    if edge := sidecar.edge:
        listeners.append(edge_listener(sidecar, edge))
        clusters.append(replicas("edge", "router", edge.routers, sidecar, edge.identity))
        if edge.doors:
            clusters.append(replicas("doors", HTTP, edge.doors, sidecar, edge.doors_identity))
    if sidecar.metrics is not None and sidecar.admin is not None:
        listeners.append(metrics_listener(sidecar.metrics, _ADMIN))
        clusters.append(_own_pages(sidecar.admin))
    tree: dict[str, Any] = {
        "node": {"id": sidecar.name, "cluster": f"lensmesh-{sidecar.name}"},
        "static_resources": {"listeners": listeners, "clusters": clusters},
        # A reset connection, not an empty memory: what a flood of callers gets first.
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.resource_monitors."
                        "downstream_connections.v3.DownstreamConnectionsConfig",
                        "max_active_downstream_connections": sidecar.max_connections,
                    },
                }
            ]
        },
    }
    if sidecar.admin is not None:
        tree["admin"] = {"address": _address(sidecar.admin)}
    return tree


def _own_pages(admin: HostPort | str) -> dict[str, Any]:
    return {
        "name": _ADMIN,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": _ADMIN,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(admin)}}]}],
        },
    }


def _address(place: HostPort | str) -> dict[str, Any]:
    if isinstance(place, str):
        return {"pipe": {"path": place}}
    return {"socket_address": {"address": place.host, "port_value": place.port}}
