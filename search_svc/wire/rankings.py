"""Translation of what makes one list of the legs' findings: fusion, groups, diversity."""

from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason
from search_svc.filters import OWN_FIELDS, FieldPath, parse_metadata_path
from search_svc.legs import RRF_K, Diversity, Fusion, FusionMethod, GroupBy
from search_svc.wire.legs import invalid

MAX_RRF_K = 10_000
MAX_GROUP_FIELDS = 4
MAX_GROUP_SIZE = 100
# Own fields of an item that make groups; the others are of one item alone, or of nearly all.
GROUP_FIELDS = ("$content_digest", "$caption")
MAX_CANDIDATES = 1_000
_CANDIDATES = 100
_STRENGTH = 0.5
_METHODS = {
    search_pb2.FUSION_METHOD_UNSPECIFIED: FusionMethod.RRF,
    search_pb2.FUSION_METHOD_RRF: FusionMethod.RRF,
    search_pb2.FUSION_METHOD_WEIGHTED: FusionMethod.WEIGHTED,
}


def read_fusion(request: search_pb2.SearchRequest) -> Fusion | None:
    """Read how legs are fused; None where one leg's own score counts.

    Raises:
        InvalidInput: OPTION_INVALID.
    """
    if len(request.legs) == 1 and not request.HasField("fusion"):
        return None
    message = request.fusion
    method = _METHODS.get(message.method)
    if method is None:
        raise _out_of_range("fusion.method", f"is {message.method}: use RRF or WEIGHTED")
    if message.rrf_k > MAX_RRF_K:
        raise _out_of_range("fusion.rrf_k", f"is {message.rrf_k}: use 1 to {MAX_RRF_K}, or 0 for {RRF_K}")
    if message.rrf_k and method is FusionMethod.WEIGHTED:
        raise _out_of_range("fusion.rrf_k", "is of reciprocal rank fusion: leave it out with WEIGHTED")
    return Fusion(method, message.rrf_k or RRF_K)


def read_group_by(request: search_pb2.SearchRequest) -> GroupBy | None:
    """Read by which fields hits are grouped; None where they are not.

    Raises:
        InvalidInput: QUERY_INVALID.
    """
    if not request.HasField("group_by"):
        return None
    message = request.group_by
    if not 1 <= len(message.fields) <= MAX_GROUP_FIELDS:
        raise invalid("group_by.fields", f"has {len(message.fields)} fields: name 1 to {MAX_GROUP_FIELDS}")
    paths: list[FieldPath] = []
    for i, field in enumerate(message.fields):
        path = _group_path(field, f"group_by.fields[{i}]")
        if path in paths:
            raise invalid(f"group_by.fields[{i}]", f"is {field[:80]!r} again: name each field once")
        paths.append(path)
    if message.size > MAX_GROUP_SIZE:
        raise InvalidInput(
            Reason.LIMIT_OUT_OF_RANGE,
            f"group_by.size is {message.size}: use at most {MAX_GROUP_SIZE}",
            field="group_by.size",
            metadata={"value": message.size, "limit": MAX_GROUP_SIZE},
        )
    return GroupBy(tuple(paths), message.size or 1)


def _group_path(field: str, name: str) -> FieldPath:
    if field in GROUP_FIELDS:
        return (field,)
    if field in OWN_FIELDS:
        raise invalid(name, f"is {field}, which makes no groups: use a metadata path, {' or '.join(GROUP_FIELDS)}")
    try:
        return parse_metadata_path(field)
    except ValueError as error:
        raise invalid(name, str(error)) from None


def read_diversity(request: search_pb2.SearchRequest) -> Diversity | None:
    """Read how different hits shall be; None where only the score counts.

    Raises:
        InvalidInput: OPTION_INVALID.
    """
    if not request.HasField("diversity"):
        return None
    message = request.diversity
    strength = message.strength if message.HasField("strength") else _STRENGTH
    if not 0 <= strength <= 1:
        raise _out_of_range("diversity.strength", f"is {strength:g}: use 0 to 1")
    if message.candidates > MAX_CANDIDATES:
        raise _out_of_range(
            "diversity.candidates", f"is {message.candidates}: use 1 to {MAX_CANDIDATES}, or 0 for {_CANDIDATES}"
        )
    return Diversity(strength, message.candidates or _CANDIDATES)


def _out_of_range(field: str, description: str) -> InvalidInput:
    return InvalidInput(Reason.OPTION_INVALID, f"{field} {description}", field=field)
