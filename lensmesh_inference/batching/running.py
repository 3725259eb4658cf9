"""What a device works on now: what the watchdog looks at."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Running:
    """One batch in a device now. `number` is unlike that of any other batch of its batcher."""

    number: int
    items: int
    predicted_s: float | None
    """None where the model has run nothing yet."""
    thread: int | None = None
    """Identity of the thread that it is in (`threading.get_ident`), to tell where it hangs."""
    first: bool = False
    """Whether nothing of its group and about its size has run on this device: it may warm something up."""
