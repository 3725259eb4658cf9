"""Judging of images whose candidates are known, with the items that are told of."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from lensmesh.search.v1 import search_pb2
from router_svc.matching.candidates import CandidateItem, learn
from router_svc.matching.confidence import vector_confidence
from router_svc.matching.image_work import ImageWork
from router_svc.matching.options import MatchOptions
from router_svc.matching.store_lookup import StoreLookup
from router_svc.matching.verdicts import Judgement, Verdict, judge

# Vectors and hashes of the same bytes differ in nothing but rounding.
_SAME_COSINE: Final = 0.99
# Vectors of copies lie so near to one another, seen from an image.
_COPY_COSINE: Final = 0.03


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
    # Of each image, no more than its own: a verdict does not depend on the images beside it.
    learnt: list[set[str]] = [set() for _ in work]
    while True:
        wanted: list[set[str]] = []
        for one, ids in zip(work, learnt, strict=True):
            one.judgement = _judge(one, options)
            wanted.append({candidate.item_id for candidate in _to_read(one, options)} - ids)
        asked = set().union(*wanted)
        if not asked:
            return known
        missing = sorted(asked - known.keys())
        if missing:
            known |= await lookup.get(missing, read)
        gone = asked - known.keys()
        for one, ids, new in zip(work, learnt, wanted, strict=True):
            ids |= new
            one.candidates = [candidate for candidate in one.candidates if candidate.item_id not in gone]
            learn(one.candidates, {item_id: known[item_id] for item_id in new - gone}, one.digest)


def _judge(one: ImageWork, options: MatchOptions) -> Judgement:
    # Where some were verified, the others were left out because one of those fits; but none fits better than its file.
    verified = any(candidate.is_looked_at for candidate in one.candidates)
    return judge(
        [each for each in one.candidates if not verified or each.is_looked_at or each.same_bytes],
        options.thresholds,
        low_content=one.result.low_content,
        names_entries=bool(options.entry_fields),
    )


def _to_read(one: ImageWork, options: MatchOptions) -> Iterator[CandidateItem]:
    """Yield the candidates whose items are told of, those that may be of the same bytes, and those that may be copies.

    Copies count where they alone may keep the nearest from being a match: how much nearer it is than the next image.
    """
    assert one.judgement is not None
    for judged in one.judgement.entries[: 1 + options.alternatives]:
        yield judged.view
    for candidate in one.candidates:
        if candidate.hash_distance == 0 or (candidate.cosine or 0) >= _SAME_COSINE:
            yield candidate
    yield from _possible_copies(one, options)


def _possible_copies(one: ImageWork, options: MatchOptions) -> Iterator[CandidateItem]:
    judgement = one.judgement
    if judgement is None or not judgement.entries or judgement.verdict is Verdict.MATCH or one.result.low_content:
        return
    nearest = judgement.entries[0].view.cosine
    # Alone it would have the greatest margin.
    if nearest is None or vector_confidence(nearest, -1.0) < options.thresholds.unsure:
        return
    for candidate in one.candidates:
        if candidate.looks is None and candidate.cosine is not None and candidate.cosine >= nearest - _COPY_COSINE:
            yield candidate
