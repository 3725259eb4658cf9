"""Translation of facets between the contract and the domain."""

from collections.abc import Sequence

from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InvalidInput, PreconditionFailed
from lensmesh_chassis.reasons import Reason
from search_svc.filters import parse_metadata_path
from search_svc.model import Definition, Facet, FieldIndex, FieldType
from search_svc.wire.pages import Room, too_large

# Values of a field where a request says 0.
FACET_VALUES = 20
_MAX_FIELDS = 16


def read_facet_fields(fields: Sequence[str], definition: Definition) -> list[FieldIndex]:
    """Return the indexes of the fields to count.

    Raises:
        InvalidInput: QUERY_INVALID, none, too many or no metadata paths.
        PreconditionFailed: FIELD_NOT_INDEXED.
    """
    if not 1 <= len(fields) <= _MAX_FIELDS:
        raise InvalidInput(
            Reason.QUERY_INVALID, f"fields has {len(fields)} metadata paths: send 1 to {_MAX_FIELDS}", field="fields"
        )
    return [find_index(field, f"fields[{i}]", definition) for i, field in enumerate(fields)]


def find_index(
    text: str, field: str, definition: Definition, needed: tuple[FieldType, str] | None = None
) -> FieldIndex:
    """Return the index on the metadata path `text`, of the type that is `needed` if one is; its name is told.

    Raises:
        InvalidInput: QUERY_INVALID, no metadata path.
        PreconditionFailed: FIELD_NOT_INDEXED.
    """
    try:
        path = parse_metadata_path(text)
    except ValueError as error:
        raise InvalidInput(Reason.QUERY_INVALID, f"{field} {error}", field=field) from None
    index = definition.field_index(path)
    if index is not None and (needed is None or index.type is needed[0]):
        return index
    wanted = f"FieldIndex of {needed[1]}" if needed else "FieldIndex"
    known = ", ".join(f"{index.name} ({index.type})" for index in definition.field_indexes) or "none"
    raise PreconditionFailed(
        Reason.FIELD_NOT_INDEXED,
        f"{field}: {text[:200]} has no {wanted} in the collection {definition.name} (it has {known}):"
        " make a collection with one",
        field=field,
        metadata={"field": text, "collection": definition.name},
    )


def write_facets(facets: Sequence[Facet], asked: int, max_message_bytes: int) -> search_pb2.CountFacetsResponse:
    """Build the answer to CountFacets. Fewer facets than were asked for mean that the store stopped for their size.

    Raises:
        InvalidInput: RESPONSE_TOO_LARGE, with a limit that would fit.
    """
    response = search_pb2.CountFacetsResponse()
    room = Room(max_message_bytes)
    fits = len(facets) == asked
    for facet in facets:
        message = response.facets.add()
        write_facet(facet, message, room)
        # Taken when it is complete: the counts are within it.
        fits = room.take(message) and fits
    if not fits:
        raise too_large("limit", room.fits(asked), max_message_bytes, "ask for fewer fields")
    return response


def write_facet(facet: Facet, message: search_pb2.Facet, room: Room) -> None:
    """Fill a message with a facet, and measure each of its counts."""
    message.field = ".".join(facet.path)
    message.other_count = facet.other_count
    for counted in facet.counts:
        count = message.counts.add(count=counted.count)
        # bool first: it is a number too.
        if isinstance(counted.value, bool):
            count.value.bool_value = counted.value
        elif isinstance(counted.value, str):
            count.value.string_value = counted.value
        else:
            count.value.number_value = counted.value
        room.measure(count)
