"""Muon: momentum whose every update of a weight matrix is made orthogonal.

It needs about a third fewer samples than AdamW here. `torch.optim.Muon` computes in bfloat16, which CPUs
without bfloat16 arithmetic emulate hundreds of times slower; this one stays in float32.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def orthogonal(matrix: Tensor, rounds: int = 5) -> Tensor:
    """Return the matrix [M, N] with its singular values pushed near 1, by Newton-Schulz iteration."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrix.shape[0] > matrix.shape[1]
    near = matrix.T if tall else matrix
    near = near / (near.norm() + 1e-7)
    for _ in range(rounds):
        gram = near @ near.T
        near = a * near + (b * gram + c * gram @ gram) @ near
    level: Tensor = near.T if tall else near
    return level


class Muon(torch.optim.Optimizer):
    """Optimizer for weight matrices inside layers; embeddings, biases and norms belong with AdamW."""

    def __init__(self, weights: Iterable[Tensor], lr: float, momentum: float = 0.95, decay: float = 0.05) -> None:
        super().__init__(weights, {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no closure is used here
        """Update every weight that has a gradient, once."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                gathered = state["momentum"].mul_(group["momentum"]).add_(weight.grad)
                update = orthogonal(weight.grad + group["momentum"] * gathered)
                # Scaled to the size of AdamW's updates, so that one learning rate suits both.
                size = 0.2 * max(weight.shape) ** 0.5
                weight.mul_(1 - group["lr"] * group["decay"])
                weight.add_(update, alpha=-group["lr"] * size)
