"""Verdicts: which entry fits best, how sure that is, and whether another one fits as well."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from router_svc.matching.candidates import Basis, CandidateItem, by_cosine
from router_svc.matching.confidence import geometry_confidence, hash_confidence, vector_confidence

DEFAULT_MATCH: Final = 0.8
DEFAULT_UNSURE: Final = 0.5
# A hash that is nearer by so many bits, and geometry with so many times the inliers, is clearly the better one.
_CLEAR_BITS: Final = 8
_CLEAR_TIMES: Final = 2
# What vectors say where local features were compared and tell nothing: a person may look, and no match comes of it.
_UNVERIFIED_MOST: Final = 0.6


class Verdict(Enum):
    """Word on the entry that fits best."""

    MATCH = "match"
    UNSURE = "unsure"
    NO_MATCH = "no match"


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Least confidences, 0 to 1."""

    match: float
    unsure: float


@dataclass(frozen=True, slots=True)
class JudgedEntry:
    """An entry, by its view that fits best."""

    view: CandidateItem
    confidence: float
    basis: Basis


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is to be told of one image."""

    verdict: Verdict
    entries: tuple[JudgedEntry, ...]
    """All of them, best first."""
    ambiguous: bool = False


def judge(
    candidates: Sequence[CandidateItem], thresholds: Thresholds, *, low_content: bool, names_entries: bool
) -> Judgement:
    """Judge all that was found for an image.

    Args:
        candidates: of all entries.
        thresholds: least confidences.
        low_content: the image is of one colour, or nearly so: its vector is near to everything of that kind, and says
            nothing.
        names_entries: the caller says what an entry is. Otherwise each item is one, and two that match are copies.
    """
    entries = _ranked(candidates, low_content=low_content)
    if not entries:
        return Judgement(Verdict.NO_MATCH, ())
    best = entries[0]
    if best.confidence >= thresholds.match:
        ambiguous = names_entries and any(
            other.confidence >= thresholds.match and not _is_clearly_better(best, other) for other in entries[1:]
        )
        return Judgement(Verdict.UNSURE if ambiguous else Verdict.MATCH, entries, ambiguous)
    return Judgement(Verdict.UNSURE if best.confidence >= thresholds.unsure else Verdict.NO_MATCH, entries)


def _ranked(candidates: Sequence[CandidateItem], *, low_content: bool) -> tuple[JudgedEntry, ...]:
    nearest = by_cosine(candidates)
    best: dict[bytes, JudgedEntry] = {}
    for candidate in candidates:
        key = candidate.entry_key
        image = candidate.image_key
        # A copy is as near, whoever's it is, and says nothing against this one.
        following = next((cosine for cosine, other, shown in nearest if other != key and shown != image), None)
        judged = _judged(candidate, following, low_content=low_content)
        if key not in best or _order(judged) < _order(best[key]):
            best[key] = judged
    return tuple(sorted(best.values(), key=_order))


def _judged(candidate: CandidateItem, next_cosine: float | None, *, low_content: bool) -> JudgedEntry:
    """Return the candidate with the evidence that speaks most for it."""
    if candidate.same_bytes:
        return JudgedEntry(candidate, 1.0, Basis.CONTENT_DIGEST)
    evidence = [(0.0, Basis.VECTOR)]
    if candidate.alignment is not None:
        evidence.append((geometry_confidence(candidate.alignment, candidate.z_score), Basis.GEOMETRY))
    if candidate.hash_distance is not None:
        evidence.append((hash_confidence(candidate.hash_distance), Basis.PERCEPTUAL_HASH))
    if candidate.cosine is not None and not low_content:
        nearness = vector_confidence(candidate.cosine, next_cosine)
        is_compared = candidate.alignment is not None
        evidence.append((min(nearness, _UNVERIFIED_MOST) if is_compared else nearness, Basis.VECTOR))
    confidence, basis = max(evidence)
    return JudgedEntry(candidate, confidence, basis)


def _order(judged: JudgedEntry) -> tuple[float, float, float, float, float, str]:
    """Sort the most certain first.

    Of equally certain ones: more inliers, then what looks more alike, then the nearest, then by id.
    """
    view = judged.view
    bits = 256 if view.hash_distance is None else view.hash_distance
    cosine = view.cosine if view.cosine is not None else -1.0
    return -round(judged.confidence, 6), -judged.basis, -_inliers(view), bits, -cosine, view.item_id


def _inliers(view: CandidateItem) -> int:
    return 0 if view.alignment is None else view.alignment.inlier_count


def _is_clearly_better(best: JudgedEntry, other: JudgedEntry) -> bool:
    """Tell whether one of two entries that both match fits so much better that the other one does not count."""
    if Basis.CONTENT_DIGEST in (best.basis, other.basis):
        return best.basis is not other.basis
    if _inliers(best.view) or _inliers(other.view):
        return _inliers(best.view) >= _CLEAR_TIMES * _inliers(other.view)
    one, two = best.view.hash_distance, other.view.hash_distance
    if one is not None:
        return two is None or one + _CLEAR_BITS <= two
    # The margin of cosines is part of the confidence already, but for copies.
    return two is None and best.view.image_key != other.view.image_key
