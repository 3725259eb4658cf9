"""Comparison of two pieces of metadata: what they have in common."""

from google.protobuf import struct_pb2


def same_value(one: object, other: object) -> bool:
    """Tell whether two struct_pb2.Values say the same. Protobuf tells 0.0 from -0.0, which no store keeps apart."""
    if one == other:
        return True
    if not isinstance(one, struct_pb2.Value) or not isinstance(other, struct_pb2.Value):
        return False
    kind = one.WhichOneof("kind")
    if kind != other.WhichOneof("kind"):
        return False
    match kind:
        case "number_value":
            return one.number_value == other.number_value
        case "struct_value":
            ours, theirs = one.struct_value.fields, other.struct_value.fields
            return len(ours) == len(theirs) and all(
                name in theirs and same_value(value, theirs[name]) for name, value in ours.items()
            )
        case "list_value":
            left, right = one.list_value.values, other.list_value.values
            return len(left) == len(right) and all(map(same_value, left, right))
        case _:
            return False
