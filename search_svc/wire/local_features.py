"""Translation of local features."""

from lensmesh.common.v1 import common_pb2
from lensmesh_chassis.reasons import Reason
from search_svc.local_features import MAX_POINTS, POINT_BYTES, FeatureKind, LocalFeatures
from search_svc.model import Definition
from search_svc.wire.findings import Findings

_KINDS = {
    common_pb2.LOCAL_FEATURE_KIND_ORB: FeatureKind.ORB,
    common_pb2.LOCAL_FEATURE_KIND_ROOTSIFT: FeatureKind.ROOTSIFT,
}
WIRE_KINDS = {kind: wire for wire, kind in _KINDS.items()}


def read_features(
    message: common_pb2.LocalFeatures, definition: Definition, field: str, findings: Findings
) -> LocalFeatures | None:
    """Read features, and add to `findings` what is wrong with them: FEATURES_INVALID or FEATURES_NOT_KEPT."""
    if not definition.local_features:
        findings.unfit(
            Reason.FEATURES_NOT_KEPT,
            field,
            f"the collection {definition.name} keeps no local features: leave them out, or make another collection with"
            " local_features set",
            collection=definition.name,
        )
    kind = _KINDS.get(message.kind)
    if kind is None:
        known = ", ".join(each.name for each in FeatureKind)
        _invalid(findings, f"{field}.kind", f"is {message.kind}: use one of {known}")
        return None
    if len(message.points) % POINT_BYTES or len(message.points) > MAX_POINTS * POINT_BYTES:
        _invalid(
            findings,
            f"{field}.points",
            f"has {len(message.points)} bytes: use {POINT_BYTES} a point, and at most {MAX_POINTS:,} points",
        )
        return None
    count = len(message.points) // POINT_BYTES
    if len(message.descriptors) != count * kind.descriptor_bytes:
        _invalid(
            findings,
            f"{field}.descriptors",
            f"has {len(message.descriptors)} bytes, and {count} points of {kind.name} have"
            f" {count * kind.descriptor_bytes}: send {kind.descriptor_bytes} a point",
        )
        return None
    return LocalFeatures(kind, message.points, message.descriptors)


def write_features(value: LocalFeatures, message: common_pb2.LocalFeatures) -> None:
    """Fill a message with features."""
    message.kind, message.points, message.descriptors = WIRE_KINDS[value.kind], value.points, value.descriptors


def _invalid(findings: Findings, field: str, description: str) -> None:
    findings.invalid(Reason.FEATURES_INVALID, field, description)
