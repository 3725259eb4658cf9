"""The bytes of the Connect protocol: content types, envelopes, errors, time-outs.

Written after the protocol's reference, connectrpc.com/docs/protocol, version 1.
"""

import base64
import json
import zlib
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2

from http_svc.errors import ErrorView
from http_svc.json_bodies import parse_message, to_json
from lensmesh_chassis.errors import InvalidInput, Overloaded
from lensmesh_chassis.reasons import Reason

JSON, PROTO = "application/json", "application/proto"
STREAM_JSON, STREAM_PROTO = "application/connect+json", "application/connect+proto"
NDJSON, SSE = "application/x-ndjson", "text/event-stream"
_COMPRESSED, END_STREAM = 0x01, 0x02
_ENVELOPE = 5
_DETAILS = (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo)
# Not all of Connect's statuses are those of google.rpc.
_STATUS = {
    code_pb2.CANCELLED: 499,
    code_pb2.UNKNOWN: 500,
    code_pb2.INVALID_ARGUMENT: 400,
    code_pb2.DEADLINE_EXCEEDED: 504,
    code_pb2.NOT_FOUND: 404,
    code_pb2.ALREADY_EXISTS: 409,
    code_pb2.PERMISSION_DENIED: 403,
    code_pb2.RESOURCE_EXHAUSTED: 429,
    code_pb2.FAILED_PRECONDITION: 400,
    code_pb2.ABORTED: 409,
    code_pb2.OUT_OF_RANGE: 400,
    code_pb2.UNIMPLEMENTED: 501,
    code_pb2.INTERNAL: 500,
    code_pb2.UNAVAILABLE: 503,
    code_pb2.DATA_LOSS: 500,
    code_pb2.UNAUTHENTICATED: 401,
}
# At most eight digits are read, which are a day and more.
_MOST_TIMEOUT_DIGITS = 10


class MessageForm:
    """The form of a message: JSON or binary."""

    def __init__(self, *, binary: bool, max_values: int) -> None:
        self.binary, self._max_values = binary, max_values

    def to_wire(self, body: bytes, message: type[Message]) -> bytes:
        """Return a body as the router takes it. Raises InvalidInput (MESSAGE_MALFORMED)."""
        if self.binary:
            return body
        return parse_message(body, message(), self._max_values).SerializeToString()

    def from_wire(self, answer: bytes, message: type[Message]) -> bytes:
        """Return what the router answered as the client takes it."""
        if self.binary:
            return answer
        return to_json(message.FromString(answer))


def unpacked(body: bytes, encoding: str, limit: int) -> bytes:
    """Return a body without its compression, `limit` bytes at most.

    Raises:
        InvalidInput: The encoding is not known, or the bytes are not of it.
        Overloaded: MESSAGE_TOO_LARGE.
    """
    if encoding in ("", "identity"):
        return body
    if encoding != "gzip":
        raise InvalidInput(
            Reason.OPTION_INVALID, f"the encoding {encoding[:40]!r} is not read here: send gzip or identity"
        )
    unpacker = zlib.decompressobj(wbits=31)
    try:
        plain = unpacker.decompress(body, limit + 1)
    except zlib.error as error:
        raise InvalidInput(Reason.MESSAGE_MALFORMED, f"the body is no gzip: {error}", field="body") from None
    if len(plain) > limit:
        raise Overloaded(
            Reason.MESSAGE_TOO_LARGE,
            f"the body has more than {limit} bytes once it is unpacked: send fewer items",
            metadata={"limit": limit},
        )
    return plain


def timeout_s(text: str) -> float | None:
    """Read the header Connect-Timeout-Ms. Raises InvalidInput for anything but a number of milliseconds."""
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > _MOST_TIMEOUT_DIGITS:
        raise InvalidInput(
            Reason.OPTION_INVALID, f"Connect-Timeout-Ms is {text[:40]!r}: write milliseconds, ten digits at most"
        )
    return max(int(text), 1) / 1000


def one_envelope(body: bytes, encoding: str, limit: int) -> bytes:
    """Return the one message of a request to a method that streams its answers only."""
    if len(body) < _ENVELOPE or len(body) != _ENVELOPE + int.from_bytes(body[1:_ENVELOPE], "big"):
        raise InvalidInput(
            Reason.MESSAGE_MALFORMED,
            "the body is not one enveloped message: a flag byte, four bytes of length, then the message",
            field="body",
        )
    return unpacked(body[_ENVELOPE:], encoding if body[0] & _COMPRESSED else "", limit)


def envelope(message: bytes, flags: int = 0) -> bytes:
    """Return a message with its envelope."""
    return bytes((flags,)) + len(message).to_bytes(4, "big") + message


def error_json(view: ErrorView) -> dict[str, Any]:
    """Return an error as Connect writes it: code, message, and the details, readable ones beside the binary."""
    details = []
    for packed in view.status.details:
        shown: dict[str, Any] = {
            "type": packed.type_url.rpartition("/")[2],
            "value": base64.b64encode(packed.value).decode().rstrip("="),
        }
        for known in _DETAILS:
            if packed.Is(known.DESCRIPTOR):
                one = known()
                packed.Unpack(one)
                shown["debug"] = json_format.MessageToDict(one)
        details.append(shown)
    return {"code": view.code.lower().replace("cancelled", "canceled"), "message": view.message, "details": details}


def http_status(view: ErrorView) -> int:
    """Return the HTTP status of an error of a unary call."""
    return _STATUS.get(view.status.code, 500)


def end_of_stream(view: ErrorView | None) -> bytes:
    """Return the last envelope of a stream: it tells how the call ended."""
    return envelope(json.dumps({} if view is None else {"error": error_json(view)}).encode(), END_STREAM)
