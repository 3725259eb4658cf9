"""Text that strangers stored, made harmless before a model or a terminal reads it.

Captions, metadata, ids and addresses are data. What a terminal obeys or hides in them is written as an escape, and
what is long is cut.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

from lensmesh_cli.printable import printable

CUT = "…"


def cleaned(text: str, most_chars: int) -> str:
    """Return one line without control characters, of at most `most_chars` characters."""
    # Before it is cleaned, too: an escape takes up to ten characters, and megabytes of them would be made in vain.
    line = printable(text[: most_chars + 1])
    return line if len(line) <= most_chars else line[: most_chars - 1] + CUT


def quoted(text: str, most_chars: int) -> str:
    """Return cleaned text in quotation marks, so that a model sees where it begins and ends."""
    return json.dumps(cleaned(text, most_chars), ensure_ascii=False)


def cleaned_metadata(metadata: Mapping[str, object], most_chars: int) -> tuple[dict[str, object], bool]:
    """Return cleaned metadata of at most `most_chars` characters of JSON, and whether keys were left out."""
    kept: dict[str, object] = {}
    left = most_chars
    for key, value in metadata.items():
        pair = {cleaned(key, most_chars): cleaned_value(value, most_chars)}
        left -= len(json.dumps(pair, ensure_ascii=False))
        if left < 0:
            return kept, True
        kept |= pair
    return kept, False


def cleaned_value(value: object, most_chars: int) -> object:
    """Return a JSON value with all of its texts cleaned."""
    if isinstance(value, str):
        return cleaned(value, most_chars)
    if isinstance(value, Mapping):
        return {cleaned(str(key), most_chars): cleaned_value(each, most_chars) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [cleaned_value(each, most_chars) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        # JSON has no such number.
        return None
    return value if isinstance(value, bool | int | float) else None
