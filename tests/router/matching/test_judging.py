"""Judging with the items that are told of: what they tell changes what is believed."""

from collections.abc import Sequence
from typing import Any, cast

from lensmesh.encoder.v1 import encoder_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from router_svc.matching.candidates import Basis, CandidateItem
from router_svc.matching.geometry import Alignment
from router_svc.matching.image_work import ImageWork
from router_svc.matching.judging import judge_all
from router_svc.matching.options import read_options
from router_svc.matching.store_lookup import StoreLookup

OPTIONS = read_options(router_pb2.MatchImagesRequest(), "art")
DIGEST = b"d" * 32


class Items:
    """A store that has some items."""

    def __init__(self, **digests: bytes) -> None:
        self._digests = digests

    async def get(self, ids: Sequence[str], _read: Any) -> dict[str, search_pb2.Item]:
        digests = self._digests
        return {each: search_pb2.Item(id=each, content_digest=digests[each]) for each in ids if each in digests}

    def lookup(self) -> StoreLookup:
        return cast(StoreLookup, self)


def asked(index: int, *candidates: CandidateItem) -> ImageWork:
    return ImageWork(index, digest=DIGEST, encoded=encoder_pb2.EncodeResult(), candidates=list(candidates))


async def test_the_same_file_is_the_best_where_a_copy_made_looking_at_it_needless() -> None:
    copy = CandidateItem("copy", None, cosine=1.0, hash_distance=0, is_looked_at=True)
    copy.alignment = Alignment(400, 400, 300, 290, 200)
    work = asked(
        0, copy, CandidateItem("file", None, cosine=1.0, hash_distance=0), CandidateItem("far", None, cosine=0.5)
    )
    items = await judge_all([work], OPTIONS, Items(copy=b"c" * 32, file=DIGEST, far=b"f" * 32).lookup())
    assert work.judgement is not None
    assert [(each.view.item_id, each.basis) for each in work.judgement.entries] == [
        ("file", Basis.CONTENT_DIGEST),
        ("copy", Basis.GEOMETRY),
    ]
    assert items.keys() == {"copy", "file"}


async def test_a_verdict_does_not_depend_on_the_images_beside_it() -> None:
    def pair() -> list[CandidateItem]:
        return [CandidateItem("a", None, cosine=0.985), CandidateItem("b", None, cosine=0.93)]

    store = Items(a=b"a" * 32, b=b"b" * 32)
    alone, beside = asked(0, *pair()), asked(0, *pair())
    other = asked(1, CandidateItem("b", None, cosine=0.999))
    await judge_all([alone], OPTIONS, store.lookup())
    await judge_all([beside, other], OPTIONS, store.lookup())
    assert alone.judgement is not None
    assert beside.judgement is not None
    assert [candidate.looks for candidate in beside.candidates] == [candidate.looks for candidate in alone.candidates]
    assert beside.candidates[1].looks is None
    assert other.candidates[0].looks is not None
