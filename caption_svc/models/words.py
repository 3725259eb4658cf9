"""Caption text that only ever grows, from tokens that may still change the last word."""

from __future__ import annotations

from collections.abc import Callable


def settled(text: str) -> str:
    """Return the part of an unfinished caption that no further token can change: all words but the last.

    The last one may get another piece ("walk" + "##ing") or an apostrophe ("man" + "'s"), and an "n" before it may
    become the middle of "don't".
    """
    cut = text.rfind(" ")
    while cut > 0 and text[:cut].endswith(" n"):
        cut -= len(" n")
    return text[: max(cut, 0)]


class Deltas:
    """The pieces by which a text grows, leading space included: each is handed to `emit`."""

    def __init__(self, emit: Callable[[str], None]) -> None:
        self._emit = emit
        self._sent = ""

    def grow(self, text: str) -> None:
        """Emit what `text` has beyond what was emitted.

        A shorter or repeated text adds nothing: it is of a batch that ran again.
        """
        if len(text) > len(self._sent) and text.startswith(self._sent):
            self._emit(text[len(self._sent) :])
            self._sent = text
