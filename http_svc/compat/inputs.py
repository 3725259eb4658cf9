"""Bodies as other systems send them: a form with files, or JSON with an address or base64."""

import base64
import binascii
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request

from http_svc.json_bodies import parse_json
from http_svc.rest.multipart import MultipartReader, boundary_of
from http_svc.serving.body import Body
from http_svc.settings import HttpSettings
from lensmesh.common.v1 import common_pb2
from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason

# More than any of these systems sends in one request.
_MOST_PARTS = 64
_MULTIPART, _JSON = "multipart/form-data", "application/json"


@dataclass(slots=True)
class RequestInputs:
    """The values of one request by their name, and its files."""

    values: dict[str, Any] = field(default_factory=dict)
    """Texts of a form; any value of JSON."""
    files: dict[str, bytes] = field(default_factory=dict)

    def text(self, name: str, default: str | None = None) -> str:
        """Return a value as text. Raises InvalidInput where it is no text, or missing and without a default."""
        value = self.values.get(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, str) or not value:
            raise InvalidInput(Reason.OPTION_INVALID, f"{name} has to be a text that is not empty", field=name)
        return value

    def flag(self, name: str, default: bool) -> bool:
        """Return a value as true or false, as JSON or a form writes it. Raises InvalidInput for anything else."""
        value = self.values.get(name, default)
        if isinstance(value, str) and value.lower() in ("true", "false", "1", "0"):
            return value.lower() in ("true", "1")
        if not isinstance(value, bool):
            raise InvalidInput(Reason.OPTION_INVALID, f"{name} has to be true or false", field=name)
        return value

    def number(self, name: str, default: int, most: int) -> int:
        """Return a value as a whole number from 1 to `most`. Raises InvalidInput (LIMIT_OUT_OF_RANGE)."""
        value = self.values.get(name, default)
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
            raise InvalidInput(
                Reason.LIMIT_OUT_OF_RANGE,
                f"{name} has to be a number from 1 to {most}",
                field=name,
                metadata={"limit": most},
            )
        return value


async def read_inputs(request: Request, settings: HttpSettings) -> RequestInputs:
    """Read a body. Raises InvalidInput where it is neither a form nor an object of JSON."""
    body: Body = request.scope["body"]
    content_type = request.headers.get("content-type", "")
    kind = content_type.partition(";")[0].strip().lower()
    if kind == _MULTIPART:
        reader = MultipartReader(boundary_of(content_type), settings.body_bytes, _MOST_PARTS)
        found = RequestInputs()
        for part in reader.feed(await body.read()):
            if part.file_name:
                found.files[part.name] = part.content
            else:
                # Some clients send an image without a file name: it stands in both.
                found.files.setdefault(part.name, part.content)
                found.values[part.name] = part.content.decode("utf-8", "replace")
        reader.finish()
        return found
    if kind != _JSON:
        raise InvalidInput(
            Reason.OPTION_INVALID,
            f"the content type is {kind[:60]!r}: send {_JSON} or {_MULTIPART}",
            field="content-type",
        )
    value = parse_json(await body.read(), settings.body_values)
    if not isinstance(value, dict):
        raise InvalidInput(Reason.MESSAGE_MALFORMED, "the body has to be an object, such as {}", field="body")
    return RequestInputs(value)


def image_of_text(text: str, name: str) -> common_pb2.Image:
    """Return the image that a text is: an address, a data URI or base64. Raises InvalidInput for anything else."""
    if text.startswith(("http://", "https://")):
        return common_pb2.Image(uri=text)
    encoded = text
    if text.startswith("data:"):
        head, comma, encoded = text.partition(",")
        if not comma or not head.endswith(";base64"):
            raise InvalidInput(Reason.IMAGE_UNDECODABLE, f"{name} is a data URI without base64", field=name)
    try:
        content = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput(
            Reason.IMAGE_UNDECODABLE, f"{name} is neither an address (https://...) nor base64 of an image", field=name
        ) from None
    if not content:
        raise InvalidInput(Reason.IMAGE_EMPTY, f"{name} is empty", field=name)
    return common_pb2.Image(content=content)
