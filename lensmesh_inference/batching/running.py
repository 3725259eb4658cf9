"""The present work of a device, or of a thread that decodes. The watchdog looks at it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Running:
    """A batch in a device now, or one item in a thread. `number` is unique within its engine."""

    number: int
    what: str
    """The work in words, such as "a batch of 3 has been in the device"."""
    predicted_s: float | None
    """The predicted seconds; None where nothing is known."""
    thread: int | None = None
    """The identity of its thread (`threading.get_ident`), to tell where it hangs."""
    first: bool = False
    """True where nothing of its group and about its size has run on this device before. It may warm something up."""
