"""JSON Schema of the contracts' messages, as their descriptors tell them and as protobuf's JSON form has them."""

from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

_WHOLE = {"type": "integer"}
_LONG = {"type": ["string", "integer"], "format": "int64", "description": "A whole number; as a string in answers."}
_SCALARS: dict[int, dict[str, Any]] = {
    FieldDescriptor.TYPE_DOUBLE: {"type": ["number", "string"]},
    FieldDescriptor.TYPE_FLOAT: {"type": ["number", "string"]},
    FieldDescriptor.TYPE_INT64: _LONG,
    FieldDescriptor.TYPE_UINT64: _LONG,
    FieldDescriptor.TYPE_FIXED64: _LONG,
    FieldDescriptor.TYPE_SFIXED64: _LONG,
    FieldDescriptor.TYPE_SINT64: _LONG,
    FieldDescriptor.TYPE_INT32: _WHOLE,
    FieldDescriptor.TYPE_UINT32: {"type": "integer", "minimum": 0, "maximum": 2**32 - 1},
    FieldDescriptor.TYPE_SINT32: _WHOLE,
    FieldDescriptor.TYPE_FIXED32: _WHOLE,
    FieldDescriptor.TYPE_SFIXED32: _WHOLE,
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
}
# Messages that JSON writes in a way of their own.
_WELL_KNOWN: dict[str, dict[str, Any]] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "description": 'Seconds, as in "1.5s".'},
    "google.protobuf.Struct": {"type": "object"},
    "google.protobuf.ListValue": {"type": "array"},
    "google.protobuf.Value": {},
    "google.protobuf.Any": {"type": "object"},
    "google.rpc.Status": {
        "type": "object",
        "properties": {
            "code": {"type": "integer"},
            "message": {"type": "string"},
            "details": {"type": "array", "items": {"type": "object"}},
        },
    },
}


class MessageSchemas:
    """Schemas of messages, each defined once."""

    def __init__(self) -> None:
        self.definitions: dict[str, Any] = {}

    def ref(self, message: Descriptor) -> dict[str, Any]:
        """Return the schema of a message: a reference to its definition, which is made where it is not yet."""
        known = _WELL_KNOWN.get(message.full_name)
        if known is not None:
            return known
        name = message.full_name
        if name not in self.definitions:
            # A message may hold itself.
            self.definitions[name] = {}
            self.definitions[name] = self._message(message)
        return {"$ref": f"#/components/schemas/{name}"}

    def _message(self, message: Descriptor) -> dict[str, Any]:
        properties = {field.json_name: self._field(field) for field in message.fields}
        told: dict[str, Any] = {"type": "object", "properties": properties}
        for oneof in message.oneofs:
            if len(oneof.fields) > 1:
                names = ", ".join(field.json_name for field in oneof.fields)
                told.setdefault("description", f"At most one of {names}.")
        return told

    def _field(self, field: FieldDescriptor) -> dict[str, Any]:
        message = field.message_type
        if message is not None and message.GetOptions().map_entry:
            return {"type": "object", "additionalProperties": self._one(message.fields_by_name["value"])}
        one = self._one(field)
        return {"type": "array", "items": one} if field.is_repeated else one

    def _one(self, field: FieldDescriptor) -> dict[str, Any]:
        if field.message_type is not None:
            return self.ref(field.message_type)
        if field.enum_type is not None:
            return _enum(field.enum_type)
        return _SCALARS[field.type]


def _enum(enum: EnumDescriptor) -> dict[str, Any]:
    return {"type": "string", "enum": [value.name for value in enum.values]}
