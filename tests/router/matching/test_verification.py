"""Threads that verify: bulk work leaves the line to others, too much is refused, who leaves leaves nothing behind."""

import asyncio
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from lensmesh.common.v1 import common_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import Overloaded
from router_svc.matching import verification as verifying
from router_svc.matching.candidates import CandidateItem
from router_svc.matching.image_work import ImageWork
from router_svc.matching.local_points import points_of
from router_svc.matching.metrics import MatchMetrics
from router_svc.matching.options import MatchOptions, read_options
from router_svc.matching.verification import Verification
from tests.router.matching.points import features, scattered, turned
from tests.support.waiting import until

PLACES, DESCRIPTORS = scattered(100)
_indexes = itertools.count()


def options(priority: common_pb2.Priority.ValueType = common_pb2.PRIORITY_INTERACTIVE) -> MatchOptions:
    return read_options(router_pb2.MatchImagesRequest(priority=priority), "shown")


class Lookup:
    """A store whose items have local features; "right" has those of the image."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    async def get(self, ids: list[str], read: search_pb2.ReadOptions, *, at_once: int) -> dict[str, search_pb2.Item]:
        assert read.local_features
        self.asked.append(ids)
        made = {}
        for number, item_id in enumerate(ids):
            places, descriptors = (PLACES, DESCRIPTORS) if item_id == "right" else scattered(100, 50 + number)
            made[item_id] = search_pb2.Item(id=item_id, local_features=features(places, descriptors))
        return {item_id: item for item_id, item in made.items() if item_id != "gone"}


def image(*names: str) -> ImageWork:
    return ImageWork(
        next(_indexes),
        points=points_of(features(turned(PLACES), DESCRIPTORS)),
        digest=b"x",
        candidates=[CandidateItem(name, None, cosine=0.9 - place / 10) for place, name in enumerate(names)],
    )


@pytest.fixture
def verification() -> Iterator[Verification]:
    made = Verification(2, MatchMetrics(CollectorRegistry()))
    yield made
    made.close()


async def test_the_right_one_is_found_and_what_is_gone_is_no_candidate(verification: Verification) -> None:
    lookup: Any = Lookup()
    work = image("gone", "wrong", "right", "other", "fifth")
    await verification.verify([work], options(), lookup)
    assert [sorted(each) for each in lookup.asked] == [["gone", "other", "right", "wrong"]]
    assert [candidate.item_id for candidate in work.candidates] == ["wrong", "right", "other", "fifth"]
    inliers = {each.item_id: each.alignment.inlier_count for each in work.candidates if each.alignment}
    assert inliers["right"] > 80
    assert inliers["wrong"] < 8
    assert "fifth" not in inliers
    assert work.verify_us > 0


async def test_too_many_images_are_refused(verification: Verification, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifying, "_MOST_WAITING", 1)
    lookup: Any = Lookup()
    with pytest.raises(Overloaded) as caught:
        await verification.verify([image("a") for _ in range(3)], options(), lookup)
    assert caught.value.retry_after_s == 1
    # Nothing is left behind: the next one is taken.
    await verification.verify([image("right")], options(), lookup)


async def test_bulk_work_leaves_the_line_to_others(verification: Verification, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []
    released, real = asyncio.Event(), verifying._align_all
    loop = asyncio.get_running_loop()

    def align_all(points: Any, candidates: Any, found: Any) -> int:
        begun.append(candidates[0].item_id)
        asyncio.run_coroutine_threadsafe(released.wait(), loop).result(30)
        return real(points, candidates, found)

    lookup: Any = Lookup()
    await verification.verify([image("first")], options(), lookup)
    lookup.asked.clear()
    monkeypatch.setattr(verifying, "_align_all", align_all)
    bulk = [image(f"bulk {number}") for number in range(20)]
    work = asyncio.create_task(verification.verify(bulk, options(common_pb2.PRIORITY_BULK), lookup))
    await until(lambda: len(begun) == 2)
    urgent = asyncio.create_task(verification.verify([image("urgent")], options(), lookup))
    await until(lambda: len(lookup.asked) == 2)
    released.set()
    await urgent
    # Two had begun before it, and two more may have taken the places of those.
    assert begun.index("urgent") <= 4
    await work
    assert len(begun) == 21


async def test_a_caller_that_leaves_takes_its_work_along(
    verification: Verification, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []
    loop, released = asyncio.get_running_loop(), asyncio.Event()

    def align_all(points: Any, candidates: Any, found: Any) -> int:
        begun.append(candidates[0].item_id)
        asyncio.run_coroutine_threadsafe(released.wait(), loop).result(30)
        return 1

    monkeypatch.setattr(verifying, "_align_all", align_all)
    lookup: Any = Lookup()
    left = asyncio.create_task(verification.verify([image(f"i{number}") for number in range(20)], options(), lookup))
    await until(lambda: len(begun) == 2)
    left.cancel()
    with pytest.raises(asyncio.CancelledError):
        await left
    released.set()
    await verification.verify([image("next")], options(), lookup)
    assert len(begun) == 3
    assert verification._waiting == 0
