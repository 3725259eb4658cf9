"""What stands between a service and its work, each with a name: the service is well while there is nothing."""

from __future__ import annotations

from collections.abc import Callable


class HealthReasons:
    """Joins what several watchers find. `tell` gets all of it in words, and "" once nothing is left."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._known: dict[str, str] = {}

    def report(self, who: str, trouble: str) -> None:
        """`who` found this; "" takes back what it found before. To be called on the event loop."""
        if trouble == self._known.get(who, ""):
            return
        if trouble:
            self._known[who] = trouble
        else:
            del self._known[who]
        self._tell("; ".join(self._known.values()))
