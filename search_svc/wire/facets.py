"""Translation of facets between the contract and the domain."""

from collections.abc import Sequence

from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InvalidInput, PreconditionFailed
from lensmesh_chassis.reasons import Reason
from search_svc.filters import parse_metadata_path
from search_svc.model import Definition, Facet, FieldIndex
from search_svc.wire.pages import Room, too_large

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
    indexes = []
    for i, field in enumerate(fields):
        try:
            path = parse_metadata_path(field)
        except ValueError as error:
            raise InvalidInput(Reason.QUERY_INVALID, f"fields[{i}] {error}", field=f"fields[{i}]") from None
        index = definition.field_index(path)
        if index is None:
            known = ", ".join(index.name for index in definition.field_indexes) or "none"
            raise PreconditionFailed(
                Reason.FIELD_NOT_INDEXED,
                f"fields[{i}]: {field[:200]} has no FieldIndex in the collection {definition.name} (it has {known}):"
                " make a collection with one",
                field=f"fields[{i}]",
                metadata={"field": field, "collection": definition.name},
            )
        indexes.append(index)
    return indexes


def write_facets(facets: Sequence[Facet], asked: int, max_message_bytes: int) -> search_pb2.CountFacetsResponse:
    """Build the answer to CountFacets. Fewer facets than were asked for mean that the store stopped for their size.

    Raises:
        InvalidInput: RESPONSE_TOO_LARGE, with a limit that would fit.
    """
    response = search_pb2.CountFacetsResponse()
    room = Room(max_message_bytes)
    fits = len(facets) == asked
    for facet in facets:
        message = response.facets.add(field=".".join(facet.path), other_count=facet.other_count)
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
        # Taken when it is complete: the counts are within it.
        fits = room.take(message) and fits
    if not fits:
        raise too_large("limit", room.fits(asked), max_message_bytes, "ask for fewer fields")
    return response
