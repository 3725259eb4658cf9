"""How `lensmesh bench` sends items. Light: the command line reads it at every start."""

from enum import StrEnum


class Mode(StrEnum):
    """How items are sent."""

    UNARY = "unary"
    BATCH = "batch"
    STREAM = "stream"
