"""The training loop that both models share: one-cycle rates, progress, checkpoints, resume."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from lensmesh_shapes.data import Batch
from lensmesh_shapes.muon import Muon

Losses = dict[str, Tensor]

LAYERS = (".resblocks.", ".layers.", ".layer.")
"""Marks of a transformer layer's weights, in open_clip's and transformers' names."""


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """Length and rates of a training."""

    steps: int
    batch: int
    rate: float
    folder: Path
    seed: int = 1
    warmup: float = 0.05
    report_every: int = 50
    save_every: int = 250


def rate_at(step: int, plan: TrainingPlan) -> float:
    """Return the rate of one step in a cycle: a linear rise over the warm-up share, then half a cosine down to 1%."""
    rise = plan.warmup * plan.steps
    if step < rise:
        return plan.rate * (step + 1) / rise
    done = (step - rise) / max(1.0, plan.steps - rise)
    return plan.rate * (0.01 + 0.99 * (1 + math.cos(math.pi * min(1.0, done))) / 2)


def make_optimizers(model: nn.Module, rate: float) -> list[torch.optim.Optimizer]:
    """Make the optimizers: Muon for the layers' weight matrices, AdamW for all else. Vectors are not decayed."""
    layers, tables, vectors = [], [], []
    for name, weight in model.named_parameters():
        if weight.ndim < 2:
            vectors.append(weight)
        elif weight.ndim == 2 and any(mark in name for mark in LAYERS):
            layers.append(weight)
        else:
            tables.append(weight)
    others = [{"params": tables, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}]
    return [Muon(layers, rate), torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.98))]


def tell(line: str) -> None:
    """Report progress at once, also into a log file."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def train(
    model: nn.Module,
    losses_of: Callable[[Batch], Losses],
    batches_from: Callable[[int], Iterator[Batch]],
    export: Callable[[], None],
    plan: TrainingPlan,
) -> None:
    """Minimise the sum of `losses_of(batch)`, resuming from the folder's checkpoint if any.

    `batches_from(step)` starts a stream of batches that differs from step to step, so that a
    resumed run does not see its first batches again.
    """
    plan.folder.mkdir(parents=True, exist_ok=True)
    checkpoint = plan.folder / "checkpoint.pt"
    optimizers = make_optimizers(model, plan.rate)
    step, spent = 0, 0.0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(saved["model"])
        for optimizer, state in zip(optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        step, spent = saved["step"], saved["spent"]
        tell(f"resumed at step {step}")
    stream, began = batches_from(step), time.monotonic()
    sums: dict[str, float] = {}
    model.train()
    while step < plan.steps:
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = rate_at(step, plan)
        losses = losses_of(next(stream))
        model.zero_grad(set_to_none=True)
        torch.autograd.backward(torch.stack(list(losses.values())).sum())
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        step += 1
        for name, loss in losses.items():
            sums[name] = sums.get(name, 0.0) + float(loss.detach())
        taken = spent + time.monotonic() - began
        if step % plan.report_every == 0:
            told = "  ".join(f"{name} {total / plan.report_every:.4f}" for name, total in sums.items())
            tell(f"step {step}/{plan.steps}  {taken:.0f} s  {told}")
            sums.clear()
        if step % plan.save_every == 0 or step == plan.steps:
            saved = {
                "model": model.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in optimizers],
                "step": step,
                "spent": taken,
            }
            torch.save(saved, checkpoint.with_suffix(".part"))
            checkpoint.with_suffix(".part").replace(checkpoint)
            export()
