"""The parts of a query: its legs, and how what they find becomes one list."""

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from search_svc.calibration import Modality
from search_svc.filters import FieldPath
from search_svc.model import NamedSpace, Numbers
from search_svc.words.wanting import WantedTerm

RRF_K = 60


@dataclass(frozen=True)
class VectorLeg:
    """Nearness in one space: to `vector`, or to the vector of item `item_id`, which is then no hit itself."""

    space: NamedSpace
    vector: Numbers | None = None
    item_id: str = ""
    name: str = ""
    # In the fusion. Below 0 the leg finds nothing by itself, and pushes away what is near to it.
    weight: float = 1.0
    # Its place among the legs of the request, for errors.
    place: int = 0
    # What it is near to was made of; None: not known, and hits have no relevance.
    modality: Modality | None = None


@dataclass(frozen=True)
class WordsLeg:
    """Words that texts of an item hold."""

    terms: tuple[WantedTerm, ...]
    # Which texts, by their places in `text_paths`.
    texts: tuple[int, ...]
    # The collection's first. It says which vectors tell how much hits differ.
    space: NamedSpace
    name: str = ""
    weight: float = 1.0
    place: int = 0


@dataclass(frozen=True)
class HashLeg:
    """Images that look the same as the one of these perceptual hashes: one, two, or none, which finds nothing."""

    hashes: tuple[bytes, ...]
    # As of `WordsLeg`.
    space: NamedSpace
    name: str = ""
    weight: float = 1.0
    place: int = 0


# One notion of nearness. Each kind has `name`, `weight`, `place` and `space`.
Leg: TypeAlias = VectorLeg | WordsLeg | HashLeg


class FusionMethod(StrEnum):
    """Way to join the rankings of legs."""

    RRF = "rrf"
    WEIGHTED = "weighted"


@dataclass(frozen=True)
class Fusion:
    """Way in which the legs' rankings become one; `k` is of reciprocal rank fusion alone."""

    method: FusionMethod = FusionMethod.RRF
    k: int = RRF_K


@dataclass(frozen=True)
class GroupBy:
    """At most `size` hits for each combination of values of these fields."""

    paths: tuple[FieldPath, ...]
    size: int = 1


@dataclass(frozen=True)
class Diversity:
    """Maximal marginal relevance over the best `candidates`; `strength` 0 is the order of scores."""

    strength: float
    candidates: int
