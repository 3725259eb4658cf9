"""The reasons why a service cannot do its work, each with a name. Without any the service is healthy."""

from __future__ import annotations

from collections.abc import Callable


class HealthReasons:
    """A join of what several watchers find. `tell` gets all of it in words, and "" once nothing is left."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._known: dict[str, str] = {}

    def report(self, who: str, trouble: str) -> None:
        """Set what `who` found. "" takes back what it found before. Call it on the event loop."""
        if trouble == self._known.get(who, ""):
            return
        if trouble:
            self._known[who] = trouble
        else:
            del self._known[who]
        self._tell("; ".join(self._known.values()))
