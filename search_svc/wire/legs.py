"""Translation of the legs of a search."""

from collections.abc import Sequence

from lensmesh.common.v1 import common_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InvalidInput, PreconditionFailed
from lensmesh_chassis.limits import check_legs
from lensmesh_chassis.reasons import Reason
from search_svc.calibration import Modality
from search_svc.filters import parse_path
from search_svc.legs import HashLeg, Leg, VectorLeg, WordsLeg
from search_svc.model import Definition, NamedSpace
from search_svc.wire.calibrations import MODALITIES
from search_svc.wire.findings import Findings
from search_svc.wire.hashes import read_hash
from search_svc.wire.items import check_id
from search_svc.wire.vectors import read_vector
from search_svc.words.queries import MAX_WORDS_CHARS, read_words
from search_svc.words.texts import CAPTION, text_place
from search_svc.words.wanting import wanted


def read_legs(messages: Sequence[search_pb2.SearchLeg], definition: Definition) -> tuple[Leg, ...]:
    """Read and check the legs of one search.

    Raises:
        InvalidInput: naming each leg that is wrong.
        PreconditionFailed: SPACE_MISMATCH or FIELD_NOT_INDEXED, if nothing else is wrong.
    """
    check_legs(messages, "legs")
    findings = Findings()
    legs = [_read_leg(message, place, definition, findings) for place, message in enumerate(messages)]
    findings.check()
    return tuple(leg for leg in legs if leg is not None)


def _read_leg(message: search_pb2.SearchLeg, place: int, definition: Definition, findings: Findings) -> Leg | None:
    field = f"legs[{place}]"
    kind = message.WhichOneof("query")
    if kind is None:
        findings.invalid(
            Reason.QUERY_INVALID, field, "has no query: set embedding, item_id, caption_text or perceptual_hash"
        )
        return None
    space = _read_space(message, field, definition, findings)
    if kind != "embedding" and message.modality:
        findings.invalid(
            Reason.QUERY_INVALID, f"{field}.modality", "is of an embedding, and of all else it is known: leave it out"
        )
    if kind == "caption_text":
        return _read_words(message, place, definition, findings)
    if message.text_fields:
        findings.invalid(
            Reason.QUERY_INVALID, f"{field}.text_fields", "is for caption_text alone: leave it out, or ask for words"
        )
    if kind == "perceptual_hash":
        asked = read_hash(message.perceptual_hash, f"{field}.perceptual_hash", findings)
        return HashLeg(asked.all, definition.spaces[0], message.name, message.weight or 1.0, place)
    if space is None:
        return None
    vector, item_id = None, ""
    if kind == "embedding":
        vector = read_vector(message.embedding, space, f"{field}.embedding", findings, query=True)
    else:
        item_id = message.item_id
        check_id(item_id, f"{field}.item_id", findings)
    modality = _read_modality(message, f"{field}.modality", findings)
    return VectorLeg(space, vector, item_id, message.name, message.weight or 1.0, place, modality)


def _read_space(
    message: search_pb2.SearchLeg, field: str, definition: Definition, findings: Findings
) -> NamedSpace | None:
    """Return the space that a leg names, also one that has no use for it: an unknown name is a mistake."""
    space = definition.space(message.space)
    if space is None:
        known = ", ".join(named.name for named in definition.spaces)
        findings.invalid(
            Reason.SPACE_UNKNOWN,
            f"{field}.space",
            f"is {message.space[:80]!r}, and the collection {definition.name} has {known}",
            space=message.space[:80],
            known=known,
        )
    return space


def _read_modality(message: search_pb2.SearchLeg, field: str, findings: Findings) -> Modality | None:
    if message.HasField("item_id"):
        return Modality.IMAGE
    if message.modality not in common_pb2.Modality.values():
        findings.invalid(Reason.OPTION_INVALID, field, f"is {message.modality}: use IMAGE or TEXT")
    return next((modality for modality, wire in MODALITIES.items() if wire == message.modality), None)


def _read_words(
    message: search_pb2.SearchLeg, place: int, definition: Definition, findings: Findings
) -> WordsLeg | None:
    field, text = f"legs[{place}].caption_text", message.caption_text
    query = None
    if "\x00" in text:
        findings.invalid(Reason.QUERY_INVALID, field, "contains a NUL character")
    elif len(text) > MAX_WORDS_CHARS:
        findings.invalid(Reason.QUERY_INVALID, field, f"has {len(text)} characters, and the limit is {MAX_WORDS_CHARS}")
    else:
        try:
            query = read_words(text)
        except ValueError as error:
            findings.invalid(Reason.QUERY_INVALID, field, str(error))
    texts = _read_text_fields(message.text_fields, f"legs[{place}].text_fields", definition, findings)
    if query is None or texts is None:
        return None
    terms = wanted(query, definition.language)
    return WordsLeg(terms, texts, definition.spaces[0], message.name, message.weight or 1.0, place)


def _read_text_fields(
    names: Sequence[str], field: str, definition: Definition, findings: Findings
) -> tuple[int, ...] | None:
    places: list[int] = []
    for i, name in enumerate(names or (CAPTION[0],)):
        at = f"{field}[{i}]" if names else field
        try:
            places.append(text_place(definition, parse_path(name), at))
        except ValueError as error:
            findings.invalid(Reason.QUERY_INVALID, at, str(error))
        except PreconditionFailed as error:
            findings.unfit(error.reason, at, error.message.removeprefix(f"{at}: "), **error.metadata)
    if len(set(names)) < len(names):
        findings.invalid(Reason.QUERY_INVALID, field, "names a field twice")
    return tuple(places) if len(places) == max(1, len(names)) else None


def invalid(field: str, description: str) -> InvalidInput:
    """Build the error for a query that is wrong in itself."""
    return InvalidInput(Reason.QUERY_INVALID, f"{field} {description}", field=field)
