"""What a device, or a thread that decodes, works on now: what the watchdog looks at."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Running:
    """One batch in a device now, or one item in a thread. `number` is unlike that of any other of its engine."""

    number: int
    what: str
    """In words: "a batch of 3 has been in the device"."""
    predicted_s: float | None
    """None where nothing is known."""
    thread: int | None = None
    """Identity of the thread that it is in (`threading.get_ident`), to tell where it hangs."""
    first: bool = False
    """Whether nothing of its group and about its size has run on this device: it may warm something up."""
