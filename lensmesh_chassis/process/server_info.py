"""The process that answers, as GetInfo describes it."""

import functools
import importlib.metadata
import time
from collections.abc import Callable

from lensmesh.common.v1 import common_pb2
from lensmesh_chassis.process.memory import resident_bytes


@functools.cache  # the record of a release has its whole README, and is parsed for each question
def version() -> str:
    """Return the release of lensmesh; "0.0.0" in a checkout that was never installed."""
    try:
        return importlib.metadata.version("lensmesh")
    except importlib.metadata.PackageNotFoundError:
        return "0.0.0"


def server_info(instance: str, not_serving_reason: Callable[[], str]) -> Callable[[], common_pb2.ServerInfo]:
    """Return a function that describes this process as it is at each call."""
    fixed = common_pb2.ServerInfo(version=version(), instance=instance)
    fixed.start_time.FromNanoseconds(time.time_ns())

    def describe() -> common_pb2.ServerInfo:
        info = common_pb2.ServerInfo()
        info.CopyFrom(fixed)
        info.memory_bytes = resident_bytes()
        info.not_serving_reason = not_serving_reason()
        return info

    return describe
