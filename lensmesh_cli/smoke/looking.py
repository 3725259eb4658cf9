"""The places to look at when a step fails: which service, which log, which setting."""

from __future__ import annotations

from lensmesh_chassis.errors import LensmeshError
from lensmesh_chassis.reasons import Reason

_PEERS = "LENSMESH_ROUTER_{}_TARGETS, its own health and its log"
STEPS = {
    "health": "--target, whether the router runs, and its log",
    "services": "`lensmesh status --target ...` and the log of the service named",
    "reflection": "the router's log; a proxy in between has to let grpc.reflection.v1alpha pass",
    "encode": f"the encoder: {_PEERS.format('ENCODER')}",
    "caption": f"the captioner: {_PEERS.format('CAPTION')}",
    "ingest": "the router's log under the request id, then those of the encoder and of search",
    "search": f"search: {_PEERS.format('SEARCH')}; then the store",
    "http": "the front door: whether it runs, LENSMESH_HTTP_ROUTER_TARGET, and its log",
    "trace": "OTEL_EXPORTER_OTLP_ENDPOINT of the service named, and the collector's log",
    "delete": "search's log, and the store",
}
_REASONS = {
    Reason.ENCODER_UNAVAILABLE: STEPS["encode"],
    Reason.CAPTIONER_UNAVAILABLE: STEPS["caption"],
    Reason.SEARCH_UNAVAILABLE: STEPS["search"],
    Reason.STORE_UNAVAILABLE: "the store: whether it runs, LENSMESH_SEARCH_STORE_URL, and search's log",
    Reason.OVERLOADED: "the load: `lensmesh status`, and the queues in the metrics",
    Reason.NOT_READY: "the service's log: it is still starting (--wait gives it time)",
    Reason.DRAINING: "the service's log: it is being stopped",
}
# What gRPC says where a connection does not come about -> what it means to whoever set it up.
_TRANSPORT = (
    ("CERTIFICATE_VERIFY_FAILED", "--ca-file: the router's certificate is signed by another authority, or has expired"),
    ("ostname Verification", "--server-name: the router's certificate is made for another name"),
    ("peer name", "--server-name: the router's certificate is made for another name"),
    ("WRONG_VERSION_NUMBER", "--ca-file: the router speaks plain text, leave it away"),
    ("CERTIFICATE_REQUIRED", "--certificate-file and --key-file: the router asks who calls (mutual TLS)"),
    ("HANDSHAKE_FAILURE", "the TLS files on both sides"),
    ("Ssl handshake failed", "the TLS files on both sides; --ca-file is for a router that speaks TLS"),
    ("Socket closed", "the TLS files: perhaps the router wants TLS (--ca-file) or a client's certificate"),
    ("onnection reset", "the TLS files: perhaps the router wants TLS (--ca-file) or a client's certificate"),
    ("Stream removed", "the TLS files: perhaps the router wants TLS (--ca-file) or a client's certificate"),
    ("DNS", "--target: the name is not known here"),
    ("onnection refused", "--target: nothing listens there; is the router up, and is this its port?"),
)


def for_error(step: str, error: LensmeshError) -> str:
    """Say where to look for the cause of `error` in `step`."""
    if error.reason in _REASONS:
        return _REASONS[error.reason]
    if error.reason is Reason.UNKNOWN:
        for sign, meaning in _TRANSPORT:
            if sign in error.message:
                return meaning
    if request := error.metadata.get("request_id"):
        return f"{STEPS[step]} (request id {request})"
    return STEPS[step]
