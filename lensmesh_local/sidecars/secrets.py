"""Certificates in files that Envoy watches: its secret discovery with the file system as the server.

Envoy watches a folder for a file or link that is moved in it. So Kubernetes swaps a mounted secret, and certificates.py
does the same: certificate and key change together, and no process starts again.
"""

from __future__ import annotations

from typing import Any

from lensmesh_local.sidecars.model import Sidecar

IDENTITY, TRUST, PUBLIC = "identity", "trust", "public"
CERTIFICATE_FILE, KEY_FILE, CA_FILE = "tls.crt", "tls.key", "ca.crt"
"""Names as in a Kubernetes secret of type kubernetes.io/tls, with the authority beside them."""

HTTP1, HTTP2 = "http/1.1", "h2"
"""The protocols as TLS names them."""

_TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3."


def secret_files(sidecar: Sidecar) -> dict[str, dict[str, Any]]:
    """Return the discovery answers by name. Each lies in a file of its own: Envoy reads one secret from one file."""
    files = {
        IDENTITY: _answer({"name": IDENTITY, "tls_certificate": _certificate(sidecar.certificates)}),
        TRUST: _answer({"name": TRUST, "validation_context": _authorities(sidecar.certificates)}),
    }
    if sidecar.edge_certificates:
        files[PUBLIC] = _answer({"name": PUBLIC, "tls_certificate": _certificate(sidecar.edge_certificates)})
    return files


def server_side(sidecar: Sidecar, callers: tuple[str, ...], protocol: str = HTTP2) -> dict[str, Any]:
    """Return the transport socket of a listener that shows this Envoy's identity and admits `callers` alone."""
    context = {
        "common_tls_context": _common(sidecar, callers, protocol),
        "require_client_certificate": True,
    }
    return _socket("DownstreamTlsContext", context)


def client_side(sidecar: Sidecar, identity: str, protocol: str = HTTP2) -> dict[str, Any]:
    """Return the transport socket towards servers that must be `identity`."""
    return _socket("UpstreamTlsContext", {"common_tls_context": _common(sidecar, (identity,), protocol)})


def public_side(sidecar: Sidecar, *protocols: str) -> dict[str, Any]:
    """Return the transport socket of the edge: its certificate is for all clients, and it asks callers for none."""
    context = {
        "common_tls_context": {
            "alpn_protocols": list(protocols),
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
            "tls_certificate_sds_secret_configs": [_from_file(sidecar, PUBLIC)],
        }
    }
    return _socket("DownstreamTlsContext", context)


def _common(sidecar: Sidecar, peers: tuple[str, ...], protocol: str) -> dict[str, Any]:
    return {
        "alpn_protocols": [protocol],
        # Both, since a client's own highest is 1.2.
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "tls_certificate_sds_secret_configs": [_from_file(sidecar, IDENTITY)],
        "combined_validation_context": {
            "default_validation_context": {
                "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": peer}} for peer in peers]
            },
            "validation_context_sds_secret_config": _from_file(sidecar, TRUST),
        },
    }


def _socket(kind: str, context: dict[str, Any]) -> dict[str, Any]:
    return {"name": "envoy.transport_sockets.tls", "typed_config": {"@type": _TLS + kind, **context}}


def _from_file(sidecar: Sidecar, name: str) -> dict[str, Any]:
    source = {"path": f"{sidecar.configuration}/{name}.yaml"}
    return {"name": name, "sds_config": {"path_config_source": source, "resource_api_version": "V3"}}


def _answer(secret: dict[str, Any]) -> dict[str, Any]:
    return {"resources": [{"@type": _TLS + "Secret", **secret}]}


def _certificate(folder: str) -> dict[str, Any]:
    return {
        "certificate_chain": {"filename": f"{folder}/{CERTIFICATE_FILE}"},
        "private_key": {"filename": f"{folder}/{KEY_FILE}"},
        "watched_directory": {"path": folder},
    }


def _authorities(folder: str) -> dict[str, Any]:
    return {"trusted_ca": {"filename": f"{folder}/{CA_FILE}"}, "watched_directory": {"path": folder}}
