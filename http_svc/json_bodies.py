"""JSON of strangers: read only where it cannot take long, and written as the contracts map it."""

import json
import sys
from typing import Any, TypeVar

import orjson
from google.protobuf import json_format
from google.protobuf.message import Message

from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason

M = TypeVar("M", bound=Message)

# protobuf's own limit for parsing.
MAX_DEPTH = 100


def parse_json(body: bytes, max_values: int) -> Any:
    """Read a body as JSON.

    Values are counted before they are made: a body of empty lists takes fifty times its size, and seconds to read.

    Raises:
        InvalidInput: MESSAGE_MALFORMED, no JSON, not UTF-8, or nested too deeply; TOO_MANY_ITEMS, more than
            `max_values` values.
    """
    values = body.count(b",") + body.count(b"[") + body.count(b"{") + 1
    if values > max_values:
        raise InvalidInput(
            Reason.TOO_MANY_ITEMS,
            f"the body holds some {values} values and the limit is {max_values} (body_values): send fewer items in one "
            "request",
            field="body",
            metadata={"limit": max_values},
        )
    try:
        return json.loads(body.decode("utf-8"), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise _malformed(f"the body is not UTF-8 (byte {error.start}): JSON is sent as UTF-8") from None
    except RecursionError:
        raise _malformed(f"the body nests lists and objects too deeply: {MAX_DEPTH} levels are read") from None
    except json.JSONDecodeError as error:
        raise _malformed(f"the body is no JSON: {error}") from None
    except ValueError:
        most = sys.get_int_max_str_digits()
        raise _malformed(f"the body holds a number of more than {most} digits: send it as text") from None


def parse_message(body: bytes, message: M, max_values: int, *, ignore_unknown: bool = False) -> M:
    """Read a body of JSON into a message of the contracts, in protobuf's JSON form. Return the message.

    Raises InvalidInput as `parse_json` does, and for fields that the message does not have.
    """
    value = parse_json(body, max_values) if body else {}
    return into_message(value, message, ignore_unknown=ignore_unknown)


def into_message(value: Any, message: M, *, ignore_unknown: bool = False, field: str = "body") -> M:
    """Put a value of JSON into a message. Return the message. Raises InvalidInput (MESSAGE_MALFORMED)."""
    if not isinstance(value, dict):
        raise _malformed(f"{field} has to be an object, such as {{}}", field)
    try:
        json_format.ParseDict(value, message, ignore_unknown_fields=ignore_unknown, max_recursion_depth=MAX_DEPTH)
    except (json_format.ParseError, RecursionError, ValueError, TypeError, AttributeError) as error:
        raise _malformed(f"{field} does not fit {message.DESCRIPTOR.name}: {str(error)[:300]}", field) from None
    return message


def to_json(message: Message) -> bytes:
    """Return a message in protobuf's JSON form. Fields without a value are left out."""
    return dump(json_format.MessageToDict(message))


def dump(value: Any) -> bytes:
    """Return a value as JSON. Lone surrogates become question marks."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        # A lone surrogate, or an integer beyond 64 bits.
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _no_constant(name: str) -> Any:
    raise _malformed(f"the body is no JSON: {name} is no value of JSON")


def _malformed(message: str, field: str = "body") -> InvalidInput:
    return InvalidInput(Reason.MESSAGE_MALFORMED, message, field=field)
