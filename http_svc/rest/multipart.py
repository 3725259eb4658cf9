"""Multipart bodies, part by part, without temporary files: bounded in parts, in their heads and in their bytes."""

import logging
import re
from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from lensmesh_chassis.errors import InvalidInput, Overloaded
from lensmesh_chassis.reasons import Reason

MOST_HEADERS = 16
MOST_HEADER_BYTES = 4096
_BOUNDARY = re.compile(rb"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]")
# The parser logs what strangers send.
_quiet = logging.Logger("multipart", logging.CRITICAL + 1)


@dataclass(frozen=True, slots=True)
class BodyPart:
    """One part of a body."""

    name: str
    file_name: str
    content: bytes
    """Empty where `too_large`."""
    too_large: bool = False

    def text(self) -> str:
        """Return the content as text. Raises InvalidInput for what is not UTF-8."""
        try:
            return self.content.decode()
        except UnicodeDecodeError as error:
            raise InvalidInput(
                Reason.TEXT_INVALID, f"the part {self.name} is not UTF-8 (byte {error.start})", field=self.name
            ) from None


def boundary_of(content_type: str) -> bytes:
    """Return the boundary that a content type names. Raises InvalidInput where it names none that can be one."""
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if not _BOUNDARY.fullmatch(boundary):
        raise InvalidInput(
            Reason.MESSAGE_MALFORMED,
            "the content type names no boundary: write multipart/form-data; boundary=..., 1 to 70 characters, as "
            "clients do by themselves",
            field="content-type",
        )
    return boundary


class MultipartReader:
    """Takes bytes as they come, and gives parts as they end."""

    def __init__(self, boundary: bytes, most_bytes: int, most_parts: int = 0, *, skip_large: bool = False) -> None:
        """Make a reader.

        Args:
            boundary: What stands between parts.
            most_bytes: Of one part.
            most_parts: Of the body; 0 for any number.
            skip_large: Whether a part beyond `most_bytes` is given without its content, in place of an error.
        """
        self._most_bytes, self._most_parts, self._skip_large = most_bytes, most_parts, skip_large
        self._parts: list[BodyPart] = []
        self._count = 0
        self._header, self._value = b"", b""
        self._disposition = b""
        self._name, self._file_name = "", ""
        self._content: list[bytes] = []
        self._size = 0
        self._ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_part_data": self._data,
                "on_part_end": self._end,
                "on_header_field": self._header_field,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_finished,
                "on_end": self._all,
            },
            max_header_count=MOST_HEADERS,
            max_header_size=MOST_HEADER_BYTES,
        )
        self._parser.logger = _quiet

    def feed(self, data: bytes) -> list[BodyPart]:
        """Take bytes. Return the parts that end in them.

        Raises:
            InvalidInput: It is no multipart body, or has too many parts, or a part without a name.
            Overloaded: MESSAGE_TOO_LARGE, a part is.
        """
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise _malformed(f"the body is no multipart of its boundary: {error}") from None
        parts, self._parts = self._parts, []
        return parts

    def finish(self) -> None:
        """Say that there are no more bytes. Raises InvalidInput where the body was cut."""
        if not self._ended:
            raise _malformed("the body ends before its last boundary: it was cut, send it again")

    def _begin(self) -> None:
        self._count += 1
        if self._most_parts and self._count > self._most_parts:
            raise InvalidInput(
                Reason.TOO_MANY_ITEMS,
                f"the body has more than {self._most_parts} parts: send many files by POST /v1/ingest",
                field="body",
                metadata={"limit": self._most_parts},
            )
        self._disposition = self._header = self._value = b""
        self._content, self._size = [], 0

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        try:
            self._name = options.get(b"name", b"").decode()
            # As browsers write it.
            self._file_name = options.get(b"filename", b"").decode().replace("%22", '"')
        except UnicodeDecodeError:
            raise _malformed(f"the head of part {self._count} is not UTF-8") from None
        if not self._name:
            raise _malformed(f'part {self._count} has no name: Content-Disposition: form-data; name="..." names it')

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._size += end - start
        if self._size <= self._most_bytes:
            self._content.append(data[start:end])
            return
        self._content.clear()
        if not self._skip_large:
            raise Overloaded(
                Reason.MESSAGE_TOO_LARGE,
                f"the part {self._name[:80]} has more than {self._most_bytes} bytes: send a smaller file",
                metadata={"limit": self._most_bytes},
            )

    def _end(self) -> None:
        content = self._content[0] if len(self._content) == 1 else b"".join(self._content)
        self._content = []
        self._parts.append(BodyPart(self._name, self._file_name, content, self._size > self._most_bytes))

    def _all(self) -> None:
        self._ended = True


def _malformed(message: str) -> InvalidInput:
    return InvalidInput(Reason.MESSAGE_MALFORMED, message, field="body")
