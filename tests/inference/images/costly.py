"""Transforms that cost the process dear that is asked for them. Imports little: a decoding process imports it too."""

from __future__ import annotations

import os
import signal
import sys

import numpy as np

from lensmesh_inference.images.transform import Transform


def in_a_process_of_its_own() -> None:
    """Fail where this is the service's own process."""
    assert sys.argv[0].endswith("child.py")


class Deadly(Transform):
    """Ends the process that is asked for it."""

    def resized(self, height: int, width: int) -> tuple[int, int]:
        in_a_process_of_its_own()
        os.kill(os.getpid(), signal.SIGSEGV)
        return height, width


class Endless(Transform):
    """Keeps the processor of the process that is asked for it."""

    def resized(self, height: int, width: int) -> tuple[int, int]:
        while True:
            pass


class Hanging(Transform):
    """Stops the process that is asked for it."""

    def resized(self, height: int, width: int) -> tuple[int, int]:
        in_a_process_of_its_own()
        os.kill(os.getpid(), signal.SIGSTOP)
        return height, width


class Greedy(Transform):
    """Takes more memory than it may."""

    def resized(self, height: int, width: int) -> tuple[int, int]:
        np.ones(10**10, np.uint8)
        return height, width
