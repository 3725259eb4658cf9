"""Judging of images whose candidates are known, with the items that are told of."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from lensmesh.search.v1 import search_pb2
from router_svc.matching.candidates import CandidateItem
from router_svc.matching.image_work import ImageWork
from router_svc.matching.options import MatchOptions
from router_svc.matching.store_lookup import StoreLookup
from router_svc.matching.verdicts import Judgement, judge

# Vectors and hashes of the same bytes differ in nothing but rounding.
_SAME_COSINE: Final = 0.99


async def judge_all(
    work: Sequence[ImageWork], options: MatchOptions, lookup: StoreLookup
) -> Mapping[str, search_pb2.Item]:
    """Judge images, and return the items that their judgements tell of, by id.

    An item that is gone by now is no candidate any more: what is told of is there.
    """
    read = search_pb2.ReadOptions()
    read.CopyFrom(options.read)
    if read.view == search_pb2.ITEM_VIEW_ID:
        # The digests are wanted here.
        read.view = search_pb2.ITEM_VIEW_BASIC
    known: dict[str, search_pb2.Item] = {}
    while True:
        for one in work:
            one.judgement = _judge(one, options)
        missing = sorted({candidate.item_id for one in work for candidate in _to_read(one, options)} - known.keys())
        if not missing:
            return known
        found = await lookup.get(missing, read)
        known |= found
        gone = set(missing) - found.keys()
        for one in work:
            one.candidates = [candidate for candidate in one.candidates if candidate.item_id not in gone]
            for candidate in one.candidates:
                if candidate.item_id in found:
                    candidate.same_bytes = found[candidate.item_id].content_digest == one.digest


def _judge(one: ImageWork, options: MatchOptions) -> Judgement:
    # Where some were verified, the others were left out because one of those fits.
    looked_at = [candidate for candidate in one.candidates if candidate.is_looked_at]
    return judge(
        looked_at or one.candidates,
        options.thresholds,
        low_content=one.result.low_content,
        names_entries=bool(options.entry_fields),
    )


def _to_read(one: ImageWork, options: MatchOptions) -> Iterator[CandidateItem]:
    """Yield the candidates whose items are told of, and those that may be of the same bytes."""
    assert one.judgement is not None
    for judged in one.judgement.entries[: 1 + options.alternatives]:
        yield judged.view
    for candidate in one.candidates:
        if candidate.hash_distance == 0 or (candidate.cosine or 0) >= _SAME_COSINE:
            yield candidate
