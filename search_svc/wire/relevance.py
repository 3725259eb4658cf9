"""Relevance of hits: which legs tell it, and what a request may leave out by it."""

from collections.abc import Iterable, Mapping, Sequence

from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InvalidInput, PreconditionFailed
from lensmesh_chassis.reasons import Reason
from search_svc.calibration import Calibration, Calibrations
from search_svc.legs import Leg, VectorLeg
from search_svc.model import Definition
from search_svc.wire.legs import invalid


def calibrated(legs: Sequence[Leg], calibrations: Calibrations) -> dict[str, Calibration]:
    """Return what the cosines of legs mean, by the legs' names: of the vector legs of positive weight, where known."""
    found = {}
    for leg in _telling(legs):
        measured = calibrations.get(leg.space.name, ())
        known = next((each for each in measured if each.modality is leg.modality), None)
        if known is not None:
            found[leg.name] = known
    return found


def read_least_cosines(
    request: search_pb2.SearchRequest, legs: Sequence[Leg], calibrations: Calibrations, definition: Definition
) -> dict[str, float] | None:
    """Return the least cosine of each leg that tells relevance, by its name; None without `min_relevance`.

    Raises:
        InvalidInput: QUERY_INVALID.
        PreconditionFailed: NOT_CALIBRATED.
    """
    if not request.HasField("min_relevance"):
        return None
    if not 0 <= request.min_relevance <= 1:
        raise invalid("min_relevance", f"is {request.min_relevance:g}: use 0 to 1")
    known = calibrated(legs, calibrations)
    telling = _telling(legs)
    if not telling:
        raise invalid("min_relevance", "needs a leg of positive weight with a vector: words and hashes have none")
    for leg in telling:
        if leg.modality is None:
            field = f"legs[{leg.place}].modality"
            raise InvalidInput(
                Reason.QUERY_INVALID,
                f"{field} is not set: say what the embedding was made of, or leave min_relevance out",
                field=field,
            )
        if leg.name not in known:
            raise PreconditionFailed(
                Reason.NOT_CALIBRATED,
                f"min_relevance: the space {leg.space.name} of the collection {definition.name} was not measured for"
                f" queries by {leg.modality.value}: run lensmesh calibrate, or leave min_relevance out",
                field="min_relevance",
                metadata={
                    "collection": definition.name,
                    "space": leg.space.name,
                    "modality": leg.modality.value,
                },
            )
    return {name: calibration.cosine(request.min_relevance) for name, calibration in known.items()}


def relevance_of(scores: Iterable[tuple[str, float, int]], known: Mapping[str, Calibration]) -> float | None:
    """Return the relevance of a hit by the scores of its legs; None where no calibrated leg found it."""
    found = [known[name].relevance(score) for name, score, _ in scores if name in known]
    return max(found, default=None)


def _telling(legs: Sequence[Leg]) -> list[VectorLeg]:
    return [leg for leg in legs if isinstance(leg, VectorLeg) and leg.weight > 0]
