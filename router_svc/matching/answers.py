"""The answer of MatchImages: written as its images are judged, and never larger than a message may be."""

from collections.abc import Mapping, Sequence

from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.messages.packing import Slices
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import to_status
from router_svc.matching.candidates import Basis
from router_svc.matching.geometry import Alignment
from router_svc.matching.image_work import ImageWork
from router_svc.matching.options import MatchOptions
from router_svc.matching.verdicts import JudgedEntry, Judgement, Verdict

_VERDICTS = {
    Verdict.MATCH: router_pb2.MATCH_VERDICT_MATCH,
    Verdict.UNSURE: router_pb2.MATCH_VERDICT_UNSURE,
    Verdict.NO_MATCH: router_pb2.MATCH_VERDICT_NO_MATCH,
}
_BASES = {
    Basis.CONTENT_DIGEST: router_pb2.MATCH_BASIS_CONTENT_DIGEST,
    Basis.GEOMETRY: router_pb2.MATCH_BASIS_GEOMETRY,
    Basis.PERCEPTUAL_HASH: router_pb2.MATCH_BASIS_PERCEPTUAL_HASH,
    Basis.VECTOR: router_pb2.MATCH_BASIS_VECTOR,
}
# Of a result, the tag and the length.
_FRAME_BYTES = 8


class Answer:
    """The answer to one call."""

    def __init__(self, count: int, options: MatchOptions, max_message_bytes: int) -> None:
        self.message = router_pb2.MatchImagesResponse(results=[router_pb2.MatchResult() for _ in range(count)])
        self._options = options
        self._max_message_bytes = max_message_bytes
        self._size = 0

    async def write(self, work: Sequence[ImageWork], items: Mapping[str, search_pb2.Item]) -> None:
        """Write the results of some images. Raises InvalidInput with reason RESPONSE_TOO_LARGE where too much comes."""
        slices = Slices()
        for one in work:
            result = self.message.results[one.index]
            if one.encoded is not None and one.encoded.HasField("timings"):
                result.encode.CopyFrom(one.encoded.timings)
            if one.error is not None:
                result.error.CopyFrom(to_status(one.error))
            else:
                assert one.judgement is not None
                result.store_us, result.verify_us = one.store_us, one.verify_us
                self._write_match(one.judgement, items, result.match)
            self._size += result.ByteSize() + _FRAME_BYTES
            if self._size > self._max_message_bytes:
                raise self._too_large()
            if slices.over:
                await slices.rest()

    def _write_match(
        self, judgement: Judgement, items: Mapping[str, search_pb2.Item], match: router_pb2.ImageMatch
    ) -> None:
        match.verdict, match.ambiguous = _VERDICTS[judgement.verdict], judgement.ambiguous
        for place, judged in enumerate(judgement.entries[: 1 + self._options.alternatives]):
            message = match.alternatives.add() if place else match.best
            self._write_candidate(judged, items[judged.view.item_id], message)

    def _write_candidate(self, judged: JudgedEntry, item: search_pb2.Item, message: router_pb2.MatchCandidate) -> None:
        view = judged.view
        if self._options.read.view == search_pb2.ITEM_VIEW_ID:
            message.item.id = item.id
        else:
            message.item.CopyFrom(item)
        if view.entry is not None:
            message.entry.CopyFrom(view.entry)
        message.confidence, message.basis = judged.confidence, _BASES[judged.basis]
        if view.cosine is not None:
            message.cosine = view.cosine
        if view.hash_distance is not None:
            message.hash_distance = view.hash_distance
        if view.alignment is not None:
            _write_alignment(view.alignment, message.geometry)

    def _too_large(self) -> InvalidInput:
        return InvalidInput(
            Reason.RESPONSE_TOO_LARGE,
            f"the answer would exceed {self._max_message_bytes} bytes: send fewer images in one call, ask for fewer "
            "alternatives, or read less with read.view",
            field="images",
            metadata={"limit_bytes": self._max_message_bytes},
        )


def _write_alignment(alignment: Alignment, message: router_pb2.MatchGeometry) -> None:
    message.inlier_count, message.tentative_count = alignment.inlier_count, alignment.tentative_count
    message.place_count = alignment.place_count
    message.query_point_count, message.item_point_count = alignment.query_point_count, alignment.item_point_count
    message.homography.extend(alignment.homography)
    message.pairs.extend(alignment.pairs)
