"""A check by scan headers alone: whether the scans of a JPEG bring all coefficients of its image."""

from __future__ import annotations

from typing import Final

FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""The markers of a start of frame: all but DHT, JPG and DAC in this range."""
PROGRESSIVE: Final = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
"""The markers of progressive frames, of which the decoder keeps all coefficients."""
_COEFFICIENTS: Final = 64


class Coefficients:
    """The coefficients of an image that are still to come, updated with each frame and scan header.

    A file that ends after some of its scans decodes to a blur, and libjpeg does not warn of it.
    """

    def __init__(self) -> None:
        self._names = b""
        # Of each component whose first scan has come: how many bits of each coefficient are still to come.
        self._left: dict[int, list[int]] = {}
        self._progressive = False
        self.settled = False
        """True where nothing that follows changes the answer: a sequential JPEG has shown all its components."""

    @property
    def missing(self) -> bool:
        """True where some component's coefficients have not come, or not to their last bit."""
        if self.settled:
            return False
        return any(name not in self._left or any(self._left[name]) for name in self._names)

    def frame(self, marker: int, body: bytes) -> None:
        """Take in a start of frame: its marker and the bytes behind its length."""
        if not self.settled and len(body) > 6:
            self._progressive = marker in PROGRESSIVE
            self._names, self._left = body[6:-2:3], {}

    def scan(self, body: bytes) -> None:
        """Take in a start of scan: the bytes behind its length."""
        if self.settled or not body:
            return
        count = body[0]
        if len(body) >= 4 + 2 * count:
            names = body[1 : 1 + 2 * count : 2]
            if not self._progressive and names == self._names:
                self.settled = True
                return
            first, last, bits = body[-3:] if self._progressive else (0, _COEFFICIENTS - 1, 0)
            for name in names:
                if name in self._names and first <= last < _COEFFICIENTS:
                    left = self._left.setdefault(name, [_COEFFICIENTS] * _COEFFICIENTS)
                    left[first : last + 1] = [bits & 15] * (last + 1 - first)
        self.settled = not self._progressive and not self.missing
