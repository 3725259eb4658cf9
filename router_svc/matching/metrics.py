"""Counts images that are matched: what became of them, and what the verdicts rest on."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry

from lensmesh_chassis.telemetry.loop_metrics import Counter
from router_svc.matching.candidates import Basis
from router_svc.matching.image_work import ImageWork
from router_svc.matching.verdicts import Verdict


class MatchMetrics:
    """All MatchImages calls of one router."""

    def __init__(self, registry: CollectorRegistry) -> None:
        images = Counter(
            "lensmesh_match_images_total",
            "Images answered by MatchImages: match, unsure, no_match; failed (it could not be looked at). Basis: "
            "what the confidence of the best entry rests on; none without one.",
            ("verdict", "basis"),
            registry=registry,
        )
        self._images = {
            (verdict, basis): images.labels(verdict.name.lower(), basis.name.lower())
            for verdict in Verdict
            for basis in Basis
        }
        self._verified = Counter(
            "lensmesh_match_verified_candidates_total",
            "Candidates of matches whose local features were compared with an image's.",
            (),
            registry=registry,
        ).labels()
        self._nothing = images.labels(Verdict.NO_MATCH.name.lower(), "none")
        self._failed = images.labels("failed", "none")

    def verified(self, count: int) -> None:
        """Count candidates that were verified."""
        self._verified.inc(count)

    def count(self, work: Sequence[ImageWork]) -> None:
        """Count the images of a call that is answered."""
        for one in work:
            if one.judgement is None:
                self._failed.inc()
            elif not one.judgement.entries:
                self._nothing.inc()
            else:
                self._images[one.judgement.verdict, one.judgement.entries[0].basis].inc()
