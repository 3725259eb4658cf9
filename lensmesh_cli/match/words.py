"""Words for a match: its verdict, its entry, and what it rests on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lensmesh_cli.hits import group_name, name_of

if TYPE_CHECKING:
    from lensmesh_client import MatchCandidate, MatchResult

STYLES = {"match": "green", "unsure": "yellow", "no match": "dim"}
"""The style of each verdict on a terminal."""


def verdict_of(found: MatchResult) -> str:
    """Return the verdict in words, "failed" where there is none."""
    if found.verdict is None:
        return "failed"
    return f"{found.verdict}, between two" if found.ambiguous else str(found.verdict)


def entry_of(candidate: MatchCandidate) -> str:
    """Return the name of the entry: the values of its fields, else the name of the item's file."""
    return group_name(candidate.entry) or name_of(candidate.item)


def rests_on(candidate: MatchCandidate) -> str:
    """Return what the confidence rests on, with its number."""
    geometry = candidate.geometry
    match candidate.basis:
        case "content digest":
            return "the same bytes"
        case "geometry" if geometry is not None:
            return f"geometry: {geometry.inlier_count} of {geometry.tentative_count} pairs of points agree"
        case "perceptual hash" if candidate.hash_distance is not None:
            return f"perceptual hash: {candidate.hash_distance} of 256 bits differ"
        case "vector" if candidate.cosine is not None:
            return f"vector: cosine {candidate.cosine:.3f}"
    return "" if candidate.basis is None else str(candidate.basis)
