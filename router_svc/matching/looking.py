"""The order in which candidates are looked at, and when enough of them have been."""

from collections.abc import Sequence
from typing import Final

from router_svc.matching.candidates import CandidateItem
from router_svc.matching.confidence import geometry_confidence
from router_svc.matching.image_work import ImageWork
from router_svc.matching.options import MatchOptions

AT_ONCE: Final = 4
"""Candidates of an image that are looked at together."""
# So much confidence leaves nothing to doubt.
_CLEAR: Final = 0.99
# Another entry that shows the same has nearly the same cosine.
_RIVAL_COSINE: Final = 0.03


def next_to_look_at(one: ImageWork, options: MatchOptions) -> list[CandidateItem]:
    """Return the next candidates whose local features are to be compared with an image's; none where all is said.

    All are looked at, the most promising first, until one fits beyond doubt. Then only those are left that may
    contradict it, and as many entries as are told of.
    """
    if one.points is None or not len(one.points):
        # With nothing to compare, vectors and hashes decide.
        return []
    left = [candidate for candidate in one.candidates if not candidate.is_looked_at]
    clear = _clear(one.candidates)
    if clear is None:
        return left[:AT_ONCE]
    known = {candidate.entry_key for candidate in one.candidates if candidate.is_looked_at}
    missing = 1 + options.alternatives - len(known)
    chosen: list[CandidateItem] = []
    for candidate in left:
        if candidate.entry_key == clear.entry_key:
            continue
        is_new = candidate.entry_key not in known
        if (is_new and missing > 0) or (options.entry_fields and _is_rival(candidate, clear)):
            chosen.append(candidate)
            known.add(candidate.entry_key)
            missing -= is_new
    return chosen[:AT_ONCE]


def _clear(candidates: Sequence[CandidateItem]) -> CandidateItem | None:
    """Return the candidate that fits beyond doubt, if one does."""
    for candidate in candidates:
        told = candidate.alignment
        if candidate.same_bytes or (told and geometry_confidence(told, candidate.z_score) >= _CLEAR):
            return candidate
    return None


def _is_rival(candidate: CandidateItem, clear: CandidateItem) -> bool:
    """Tell whether another entry may show the same as the one that fits beyond doubt."""
    if candidate.hash_distance is not None or candidate.cosine is None or clear.cosine is None:
        return True
    return candidate.cosine >= clear.cosine - _RIVAL_COSINE
