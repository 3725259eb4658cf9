"""The processors that models run on, and the precision. torch is imported when a device is asked for, not before."""

from __future__ import annotations

import functools
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil

from lensmesh_chassis.errors import PreconditionFailed
from lensmesh_chassis.process.cpus import cpu_count as cpu_count
from lensmesh_chassis.process.memory import resident_bytes
from lensmesh_chassis.reasons import Reason

if TYPE_CHECKING:
    import torch

PRECISIONS: Final = ("float32", "bfloat16", "float16")
# Each worker needs at least a core to be of use, and no machine has more.
MOST_CPU_WORKERS: Final = 256
_DEVICES: Final = "auto, cpu, cpu:N, cuda, cuda:N, or several of them, comma-separated"
_BF16_FLAGS: Final = frozenset({"avx512_bf16", "amx_bf16", "bf16"})


@dataclass(frozen=True)
class DeviceFacts:
    """The facts of one processor. Sizes are in bytes, 0 where unknown."""

    id: str
    name: str
    threads: int
    memory_total: int
    memory_used: int


def parse_devices(requested: str) -> tuple[str, ...]:
    """Return one name for each worker that the setting `device` asks for: "auto", "cpu" or "cuda:N".

    `requested` is auto, or cpu, cpu:N (N workers that share the cores), cuda and cuda:N, comma-separated: "cpu:2" is
    ("cpu", "cpu"), "cuda:0,cuda:1" is two GPUs. Whether the devices are there is not checked. Raises
    ``PreconditionFailed``.
    """
    words = [word.strip() for word in requested.split(",")]
    if words == ["auto"]:
        return ("auto",)
    workers: list[str] = []
    for word in words:
        kind, colon, number = word.partition(":")
        if kind not in ("cpu", "cuda") or (colon and not (number.isascii() and number.isdecimal())):
            raise _refused(f"device {requested!r} is unknown: use {_DEVICES}.")
        if kind == "cpu":
            count = int(number or 1)
            if not 1 <= count <= MOST_CPU_WORKERS:
                raise _refused(f"device {word!r} asks for {count} workers: the limit is 1 to {MOST_CPU_WORKERS}.")
            workers += ["cpu"] * count
        else:
            workers.append(f"cuda:{int(number or 0)}")
    gpus = [worker for worker in workers if worker != "cpu"]
    if len(set(gpus)) < len(gpus) or len([word for word in words if word.startswith("cpu")]) > 1:
        raise _refused(f"device {requested!r} names one device twice: name each once, cpu:N for N workers on the CPU.")
    return tuple(workers)


def choose_devices(requested: str) -> tuple[torch.device, ...]:
    """Return one device for each worker that the setting asks for, as by `parse_devices`.

    "auto" is the first GPU where torch sees one, else the CPU. Raises ``PreconditionFailed`` for a device that is not
    there: running elsewhere without a word would be a hundred times slower.
    """
    import torch

    names = parse_devices(requested)
    if names == ("auto",):
        return (torch.device("cuda:0" if torch.cuda.is_available() else "cpu"),)
    devices = tuple(torch.device(name) for name in names)
    for device in devices:
        if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
            raise _refused(
                f"device {requested!r} was asked for, but torch {torch.__version__} sees "
                f"{torch.cuda.device_count()} CUDA devices: check the driver, or set the device to auto or cpu."
            )
    return devices


def threads_each(threads: int, workers: Sequence[str]) -> int:
    """Return the CPU threads of one forward pass, at least 1. The CPU workers among `workers` share `threads`."""
    return max(1, threads // max(1, workers.count("cpu")))


def choose_precision(device: torch.device, requested: str = "auto") -> torch.dtype:
    """Return the number type to compute in: as requested; for "auto" bfloat16 where the hardware has it, else float32.

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
    """Tell whether the processor has instructions that multiply bfloat16."""
    return bool(_BF16_FLAGS & set(_cpuinfo("flags").split() + _cpuinfo("Features").split()))


def describe_device(device: torch.device) -> DeviceFacts:
    """Return the facts of a device that a person wants to know, as they are now."""
    import torch

    if device.type == "cuda":
        facts = torch.cuda.get_device_properties(device)
        return DeviceFacts(str(device), facts.name, 0, facts.total_memory, torch.cuda.memory_reserved(device))
    return describe_cpu(torch.get_num_threads())


def describe_cpu(threads: int) -> DeviceFacts:
    """Return the facts of the CPU, with the number of threads in use. It needs no torch."""
    name = _cpuinfo("model name") or platform.processor() or platform.machine()
    return DeviceFacts("cpu", name, threads, _memory_total(), resident_bytes())


@functools.cache
def _memory_total() -> int:
    """Return the machine's memory in bytes: the same for as long as it runs, and asked for by every GetInfo."""
    return psutil.virtual_memory().total


def _refused(text: str) -> PreconditionFailed:
    return PreconditionFailed(Reason.OPTION_INVALID, text, field="device")


@functools.cache
def _cpuinfo(key: str) -> str:
    """Return the first value of a key of /proc/cpuinfo; "" on systems other than Linux."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return ""
    for line in path.read_text(errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return ""
