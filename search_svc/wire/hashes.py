"""Translation of perceptual hashes."""

from lensmesh.common.v1 import common_pb2
from lensmesh_chassis.reasons import Reason
from search_svc.hashes import HASH_BYTES, MAX_QUALITY, PerceptualHash
from search_svc.wire.findings import Findings


def read_hash(message: common_pb2.PerceptualHash, field: str, findings: Findings) -> PerceptualHash:
    """Read a hash, and add what is wrong with it to `findings` as HASH_INVALID."""
    if len(message.hash) != HASH_BYTES:
        _invalid(findings, f"{field}.hash", f"has {len(message.hash)} bytes, and PDQ has {HASH_BYTES}")
    if len(message.unframed) not in (0, HASH_BYTES):
        _invalid(
            findings, f"{field}.unframed", f"has {len(message.unframed)} bytes: send {HASH_BYTES}, or leave it out"
        )
    if message.quality > MAX_QUALITY:
        _invalid(findings, f"{field}.quality", f"is {message.quality}: use 0 to {MAX_QUALITY}")
    return PerceptualHash(message.hash, message.quality, message.unframed)


def write_hash(value: PerceptualHash, message: common_pb2.PerceptualHash) -> None:
    """Fill a message with a hash."""
    message.hash, message.quality, message.unframed = value.hash, value.quality, value.unframed


def _invalid(findings: Findings, field: str, description: str) -> None:
    findings.invalid(Reason.HASH_INVALID, field, description)
