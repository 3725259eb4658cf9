"""Names that are known to be in a media store, so that it is not asked about them again."""

from collections import OrderedDict
from typing import Final

# Some 10 MB of digests.
MOST_KNOWN: Final = 65_536


class KnownDigests:
    """A set of digests that forgets those it was not asked about for longest."""

    def __init__(self, most: int = MOST_KNOWN) -> None:
        self._most = most
        self._digests: OrderedDict[bytes, None] = OrderedDict()

    def __contains__(self, digest: bytes) -> bool:
        if digest not in self._digests:
            return False
        self._digests.move_to_end(digest)
        return True

    def add(self, digest: bytes) -> None:
        """Note that it is there."""
        self._digests[digest] = None
        self._digests.move_to_end(digest)
        if len(self._digests) > self._most:
            self._digests.popitem(last=False)

    def discard(self, digest: bytes) -> None:
        """Note that it is not there, or nobody knows."""
        self._digests.pop(digest, None)
