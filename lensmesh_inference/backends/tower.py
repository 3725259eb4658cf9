"""A tower: one network of a model, one batch in, one array out. Also what a backend needs to know to run one."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

Array: TypeAlias = npt.NDArray[np.float32]

BACKENDS: Final = ("torch", "openvino")


class Tower(Protocol):
    """A network that is ready to run, on one device. It belongs to one thread at a time."""

    @property
    def name(self) -> str:
        """The name of the network: "image", "text"."""

    @property
    def backend(self) -> str:
        """The library that computes: "torch" or "openvino"."""

    @property
    def precision(self) -> str:
        """The precision of its numbers: "float32", "bfloat16", "float16", "int8"."""

    def run(self, batch: torch.Tensor) -> Array:
        """Compute a batch that lies on the CPU, of the kind of the network's example. Rows keep their order.

        Raises ``OutOfMemory`` and ``DeviceLost`` where these are recognized. Anything else is the model's or the
        batch's fault.
        """


@dataclass(frozen=True)
class TowerSpec:
    """A tower as torch has it, before a backend is chosen for it."""

    name: str
    # In float32, on the CPU, in eval mode: one tensor in, one out, both with the batch as first dimension. What it does
    # to its input (scaling uint8 to its own numbers) is part of it.
    module: torch.nn.Module
    # Names everything that decides its numbers: weights, architecture, preprocessing inside of it.
    digest: str
    # A batch of usual size and content, at least 2 rows: what backends are measured, traced and compared with.
    example: torch.Tensor
    # Whether the second dimension may be of any size from 2 to that of the longest input as well.
    longest: int = 0


@dataclass(frozen=True)
class Placement:
    """The place of a tower: a device, and how many of the CPU's threads one forward pass may use there."""

    device: torch.device
    threads: int
    # Rows of the largest usual batch: what GPUs are prepared for; 0 where they need not be.
    max_batch: int = 32


def in_precision(module: torch.nn.Module, dtype: torch.dtype, device: torch.device) -> torch.nn.Module:
    """Return the module in another precision, on a device.

    It is the same object where nothing changes, to share weights.
    """
    weight = next(module.parameters())
    if weight.dtype == dtype and weight.device == device:
        return module
    return copy.deepcopy(module).to(device=device, dtype=dtype)
