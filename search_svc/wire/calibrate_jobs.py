"""Translation of the job that measures what cosines mean."""

from collections.abc import Sequence
from dataclasses import dataclass

from google.protobuf import json_format

from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason
from search_svc.calibration import Calibration
from search_svc.model import Definition, NamedSpace, Numbers
from search_svc.wire.calibrations import write_calibration
from search_svc.wire.findings import Findings
from search_svc.wire.items import check_id
from search_svc.wire.vectors import read_vector

MAX_TEXTS = 256
MIN_TEXTS = 20


@dataclass(frozen=True)
class CalibrateJob:
    """Subject of a calibration: a space, and texts as vectors with the ids of the items that they are about."""

    space: NamedSpace
    texts: tuple[tuple[str, Numbers], ...]


def read_start_calibrate(request: search_pb2.StartCalibrateRequest, definition: Definition) -> CalibrateJob:
    """Read and check what a calibration is asked for.

    Raises:
        InvalidInput: SPACE_UNKNOWN, TOO_MANY_ITEMS, ITEM_ID_INVALID, ITEM_ID_DUPLICATE or what is wrong with a vector.
        PreconditionFailed: SPACE_MISMATCH.
    """
    space = definition.space(request.space)
    if space is None:
        known = ", ".join(named.name for named in definition.spaces)
        raise InvalidInput(
            Reason.SPACE_UNKNOWN,
            f"space is {request.space[:80]!r}, and the collection {definition.name} has {known}",
            field="space",
            metadata={"space": request.space[:80], "known": known},
        )
    count = len(request.texts)
    if count and not MIN_TEXTS <= count <= MAX_TEXTS:
        raise InvalidInput(
            Reason.OPTION_INVALID,
            f"texts has {count} elements: send {MIN_TEXTS} to {MAX_TEXTS}, or none",
            field="texts",
        )
    findings = Findings()
    texts: dict[str, Numbers] = {}
    for i, text in enumerate(request.texts):
        field = f"texts[{i}]"
        check_id(text.item_id, f"{field}.item_id", findings)
        if text.item_id in texts:
            findings.invalid(Reason.ITEM_ID_DUPLICATE, f"{field}.item_id", "is the item of another text too")
        numbers = read_vector(text.embedding, space, f"{field}.embedding", findings, query=True)
        if numbers is not None:
            texts[text.item_id] = numbers
    findings.check()
    return CalibrateJob(space, tuple(texts.items()))


def read_calibrate(parameters: str, definition: Definition) -> CalibrateJob:
    """Return what a job of the kind calibrate was asked for."""
    request = json_format.Parse(parameters, search_pb2.StartCalibrateRequest(), ignore_unknown_fields=True)
    return read_start_calibrate(request, definition)


def calibrate_result(measured: Sequence[Calibration]) -> str:
    """Return the result of such a job as JSON."""
    result = search_pb2.CalibrateResult()
    for each in measured:
        write_calibration(each, result.calibrations.add())
    return json_format.MessageToJson(result, preserving_proto_field_name=True, indent=None)
