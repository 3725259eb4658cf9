"""The faults that a device reports, apart from its model's errors.

Backends translate their library's errors into these.
"""

from __future__ import annotations


class OutOfMemory(Exception):  # noqa: N818 - read in an except clause
    """The batch did not fit into the device's memory. The device itself is well: a smaller batch may fit."""


class DeviceLost(Exception):  # noqa: N818 - read in an except clause
    """The device will not answer again in this process: unplugged, its driver reset, its context corrupted."""
