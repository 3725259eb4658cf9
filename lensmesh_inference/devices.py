"""Which processor a model runs on, and in which numbers. torch is imported when a device is asked for, not before."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil

from lensmesh_chassis.errors import PreconditionFailed
from lensmesh_chassis.reasons import Reason

if TYPE_CHECKING:
    import torch

PRECISIONS: Final = ("float32", "bfloat16", "float16")
_BF16_FLAGS: Final = frozenset({"avx512_bf16", "amx_bf16", "bf16"})


@dataclass(frozen=True)
class DeviceFacts:
    """One processor; sizes in bytes, 0 where unknown."""

    id: str
    name: str
    threads: int
    memory_total: int
    memory_used: int


def choose_device(requested: str) -> torch.device:
    """The device for "auto" (CUDA where torch sees it, else the CPU), "cpu", "cuda" or "cuda:1".

    Raises ``PreconditionFailed`` for a device that is not there: running elsewhere in silence would be a hundred
    times slower.
    """
    import torch

    if requested == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(requested)
    except RuntimeError as error:
        raise PreconditionFailed(
            Reason.OPTION_INVALID, f"device {requested!r} is unknown: use auto, cpu, cuda or cuda:N.", field="device"
        ) from error
    if device.type == "cuda":
        index = device.index or 0
        if index >= torch.cuda.device_count():
            raise PreconditionFailed(
                Reason.OPTION_INVALID,
                f"device {requested!r} was asked for, but torch {torch.__version__} sees "
                f"{torch.cuda.device_count()} CUDA devices: check the driver, or set the device to auto or cpu.",
                field="device",
            )
        return torch.device("cuda", index)
    if device.type != "cpu":
        raise PreconditionFailed(
            Reason.OPTION_INVALID,
            f"device {requested!r} is not supported: use auto, cpu, cuda or cuda:N.",
            field="device",
        )
    return device


def choose_precision(device: torch.device, requested: str = "auto") -> torch.dtype:
    """The numbers to compute in: what was asked for, or for "auto" bfloat16 where the hardware has it, else float32.

    Without hardware for it, bfloat16 is emulated: hundreds of times slower than float32 on a CPU with AVX2 alone.
    """
    import torch

    if requested != "auto":
        if requested not in PRECISIONS:
            raise PreconditionFailed(
                Reason.OPTION_INVALID,
                f"precision {requested!r} is unknown: use auto, {', '.join(PRECISIONS)}.",
                field="precision",
            )
        dtype = getattr(torch, requested)
        assert isinstance(dtype, torch.dtype)
        return dtype
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float32
    return torch.bfloat16 if cpu_has_bfloat16() else torch.float32


def cpu_has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 itself."""
    return bool(_BF16_FLAGS & set(_cpuinfo("flags").split() + _cpuinfo("Features").split()))


def describe_device(device: torch.device) -> DeviceFacts:
    """What a person wants to know about a device, now."""
    import torch

    if device.type == "cuda":
        facts = torch.cuda.get_device_properties(device)
        return DeviceFacts(str(device), facts.name, 0, facts.total_memory, torch.cuda.memory_reserved(device))
    return describe_cpu(torch.get_num_threads())


def describe_cpu(threads: int) -> DeviceFacts:
    """The CPU with as many threads as somebody uses of it; needs no torch."""
    name = _cpuinfo("model name") or platform.processor() or platform.machine()
    return DeviceFacts("cpu", name, threads, psutil.virtual_memory().total, psutil.Process().memory_info().rss)


def cpu_count() -> int:
    """CPUs that this process may use, at least 1: a container's share, not the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpuinfo(key: str) -> str:
    """The first value of a key of /proc/cpuinfo; empty elsewhere than on Linux."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return ""
    for line in path.read_text(errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return ""
