"""A trouble that lasts: said once when it begins, and once when it is over."""

from collections.abc import Callable

from lensmesh_chassis.telemetry.logging import get_logger

log = get_logger(__name__)


class Outage:
    """The state of one kind of work at a media store. `changed` is called with the trouble, "" when it is over."""

    def __init__(self, work: str, place: str, changed: Callable[[], None]) -> None:
        self._work = work
        self._place = place
        self._changed = changed
        self.trouble = ""
        """Text that says why the work fails; empty while it does not."""

    def begin(self, why: str) -> None:
        """Note a failure."""
        before, self.trouble = self.trouble, why
        if not before:
            log.warning(f"the media store cannot be {self._work}", store=self._place, why=why)
        if before != why:
            self._changed()

    def end(self) -> None:
        """Note a success."""
        if self.trouble:
            self.trouble = ""
            log.info(f"the media store is {self._work} again", store=self._place)
            self._changed()
