"""Text of strangers, made harmless for a terminal and for files of lines.

A caption, a file's name or an error's message can hold characters that a terminal obeys: they set its title, clear it,
or show a text in another order than it has.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

# What a terminal obeys or hides: C0, DEL and C1; marks, embeddings, overrides and isolates of direction; invisible
# formatting; separators of lines and paragraphs; bytes of a name that are not UTF-8 (lone surrogates). The joiners
# U+200C and U+200D stay: scripts and emoji need them, and they move nothing.
_ORDERS = (
    "\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f"
)
_ORDER = re.compile(f"[{_ORDERS}]")
_ORDER_NOT_LAYOUT = re.compile(f"(?![\n\t])[{_ORDERS}]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:
        # How Python keeps a byte that is not UTF-8.
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def printable(text: str) -> str:
    r"""Return one line that a terminal only shows. What it would obey, newlines included, is written as ``\x1b``."""
    return _ORDER.sub(_escape, text)


def printable_lines(text: str) -> str:
    """Return the text as `printable` does, but keep its newlines and tabs."""
    return _ORDER_NOT_LAYOUT.sub(_escape, text)


def encodable(path: Path | str) -> str:
    r"""Return a path that UTF-8 can hold. A byte of a name that is not UTF-8 is written as ``\xff``."""
    return _SURROGATE.sub(_escape, str(path))


def json_line(value: object) -> str:
    r"""Return one line of JSON.

    What a terminal would obey is written as ``\u001b``, lone surrogates as in `encodable`.
    """
    # In JSON these characters stand only within strings, so that replacing them changes no structure.
    return _ORDER.sub(_escape_json, json.dumps(value, ensure_ascii=False, default=str))


def _escape_json(match: re.Match[str]) -> str:
    if _SURROGATE.match(match[0]):
        # Many parsers refuse the JSON escape of a lone surrogate.
        return "\\" + _escape(match)
    return json.dumps(match[0])[1:-1] if ord(match[0]) > 0x7E else f"\\u{ord(match[0]):04x}"
