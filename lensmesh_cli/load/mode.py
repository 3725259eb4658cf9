"""The ways in which `lensmesh bench` sends items.

This module is small, because the command line reads it at every start.
"""

from enum import StrEnum


class Mode(StrEnum):
    """A way to send items."""

    UNARY = "unary"
    BATCH = "batch"
    STREAM = "stream"
