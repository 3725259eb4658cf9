"""Verification of candidates by their local features, in threads, some candidates of some images at a time."""

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from lensmesh.common.v1 import common_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import Overloaded
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.telemetry import spans
from router_svc.matching.candidates import CandidateItem, learn
from router_svc.matching.geometry import align
from router_svc.matching.image_work import ImageWork
from router_svc.matching.local_points import LocalPoints, points_of
from router_svc.matching.looking import next_to_look_at
from router_svc.matching.metrics import MatchMetrics
from router_svc.matching.opencv import opencv
from router_svc.matching.options import MatchOptions
from router_svc.matching.store_lookup import StoreLookup
from router_svc.upstreams.together import together

# Some 16 kB an item, and up to 132.
_FEATURES_AT_ONCE: Final = 32
# Images that wait for a thread. Each takes some ten milliseconds.
_MOST_WAITING: Final = 1_024
_READ = search_pb2.ReadOptions(view=search_pb2.ITEM_VIEW_BASIC, local_features=True)


class Verification:
    """The threads that verify, shared by all calls: bulk work takes turns, so that interactive work finds one free."""

    def __init__(self, threads: int, metrics: MatchMetrics) -> None:
        self._executor = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="verify")
        self._bulk = asyncio.Semaphore(threads)
        self._metrics = metrics
        self._waiting = 0
        self._is_ready = False

    async def verify(self, work: Sequence[ImageWork], options: MatchOptions, lookup: StoreLookup) -> float:
        """Compare the local features of images with those of their candidates, until each has one that fits, or all.

        Return the seconds that the store took.

        Raises PreconditionFailed with reason LOCAL_FEATURES_UNSUPPORTED without OpenCV, Overloaded where too many
        images wait already, and what the store raises.
        """
        if not self._is_ready:
            # Its import takes a moment.
            await asyncio.get_running_loop().run_in_executor(self._executor, opencv)
            self._is_ready = True
        store_s = 0.0
        while True:
            chosen = {one.index: found for one in work if (found := next_to_look_at(one, options))}
            if not chosen:
                return store_s
            ids = sorted({candidate.item_id for found in chosen.values() for candidate in found})
            with spans.span("verify", {spans.BATCH_SIZE: sum(map(len, chosen.values()))}):
                started = time.perf_counter()
                items = await lookup.get(ids, _READ, at_once=_FEATURES_AT_ONCE)
                store_s += time.perf_counter() - started
                await together(
                    [self._look(one, chosen[one.index], items, options) for one in work if one.index in chosen]
                )

    def close(self) -> None:
        """End the threads."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _look(
        self,
        one: ImageWork,
        candidates: Sequence[CandidateItem],
        items: Mapping[str, search_pb2.Item],
        options: MatchOptions,
    ) -> None:
        gone = {candidate.item_id for candidate in candidates} - items.keys()
        one.candidates = [candidate for candidate in one.candidates if candidate.item_id not in gone]
        here = [candidate for candidate in candidates if candidate.item_id not in gone]
        # No more than its own: a verdict does not depend on the images beside it.
        learn(one.candidates, {each.item_id: items[each.item_id] for each in here}, one.digest)
        for candidate in here:
            candidate.is_looked_at = True
        if one.points is None or not here:
            return
        features = [items[candidate.item_id].local_features for candidate in here]
        if self._waiting >= _MOST_WAITING:
            raise Overloaded(
                Reason.OVERLOADED,
                f"{self._waiting} images wait to be compared with their candidates: send this call again later",
                retry_after_s=1.0,
            )
        self._waiting += 1
        try:
            turn = self._bulk if options.priority == common_pb2.PRIORITY_BULK else contextlib.nullcontext()
            async with turn:
                one.verify_us += await asyncio.get_running_loop().run_in_executor(
                    self._executor, _align_all, one.points, here, features
                )
        finally:
            self._waiting -= 1
        self._metrics.verified(len(here))


def _align_all(
    points: LocalPoints, candidates: Sequence[CandidateItem], features: Sequence[common_pb2.LocalFeatures]
) -> int:
    """Compare an image with some candidates. Return the microseconds that it took."""
    started = time.perf_counter()
    for candidate, found in zip(candidates, features, strict=True):
        theirs = points_of(found)
        if theirs is not None and theirs.kind == points.kind:
            candidate.alignment = align(points, theirs)
    return int((time.perf_counter() - started) * 1e6)
