"""Matches, between the contracts' messages and the client's own classes."""

from __future__ import annotations

from lensmesh.router.v1 import router_pb2
from lensmesh_chassis.errors import LensmeshError
from lensmesh_chassis.rpc.status import from_status
from lensmesh_client import translate
from lensmesh_client.matches import MatchBasis, MatchCandidate, MatchGeometry, MatchResult, MatchVerdict
from lensmesh_client.translate_stored import item

VERDICTS = {
    router_pb2.MATCH_VERDICT_MATCH: MatchVerdict.MATCH,
    router_pb2.MATCH_VERDICT_UNSURE: MatchVerdict.UNSURE,
    router_pb2.MATCH_VERDICT_NO_MATCH: MatchVerdict.NO_MATCH,
}
BASES = {
    router_pb2.MATCH_BASIS_CONTENT_DIGEST: MatchBasis.CONTENT_DIGEST,
    router_pb2.MATCH_BASIS_GEOMETRY: MatchBasis.GEOMETRY,
    router_pb2.MATCH_BASIS_PERCEPTUAL_HASH: MatchBasis.PERCEPTUAL_HASH,
    router_pb2.MATCH_BASIS_VECTOR: MatchBasis.VECTOR,
}


def matched(answer: router_pb2.MatchResult | LensmeshError) -> MatchResult:
    """Translate the answer for one image."""
    if isinstance(answer, LensmeshError):
        return MatchResult(error=answer)
    match = answer.match
    is_known = answer.WhichOneof("outcome") == "match"
    return MatchResult(
        # A verdict that this client does not know is nothing to rely on.
        verdict=VERDICTS.get(match.verdict, MatchVerdict.UNSURE) if is_known else None,
        best=_candidate(match.best) if match.HasField("best") else None,
        alternatives=tuple(_candidate(each) for each in match.alternatives),
        ambiguous=match.ambiguous,
        error=None if is_known else from_status(answer.error),
        encode=translate.timings(answer.encode),
        store_us=answer.store_us,
        verify_us=answer.verify_us,
    )


def _candidate(message: router_pb2.MatchCandidate) -> MatchCandidate:
    return MatchCandidate(
        item=item(message.item),
        confidence=message.confidence,
        basis=BASES.get(message.basis),
        entry=tuple(translate.plain(each) for each in message.entry.values) if message.HasField("entry") else None,
        cosine=message.cosine if message.HasField("cosine") else None,
        hash_distance=message.hash_distance if message.HasField("hash_distance") else None,
        geometry=_geometry(message.geometry) if message.HasField("geometry") else None,
    )


def _geometry(message: router_pb2.MatchGeometry) -> MatchGeometry:
    numbers = [*message.pairs]
    return MatchGeometry(
        inlier_count=message.inlier_count,
        tentative_count=message.tentative_count,
        query_point_count=message.query_point_count,
        item_point_count=message.item_point_count,
        homography=tuple(message.homography),
        pairs=tuple(zip(numbers[::4], numbers[1::4], numbers[2::4], numbers[3::4], strict=True)),
        place_count=message.place_count,
    )
