"""`python -m lensmesh_shapes.train clip|captioner`: makes the pack's two models."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from lensmesh_shapes.loop import TrainingPlan

STEPS = {"clip": 750, "captioner": 900}
RATES = {"clip": 2e-3, "captioner": 1.5e-3}


def main() -> None:
    """Parse the command line and train one model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=("clip", "captioner"))
    parser.add_argument(
        "--folder", type=Path, help="folder of the model and its checkpoints; a training that began there goes on"
    )
    parser.add_argument("--steps", type=int, help=f"steps to train (default: {STEPS})")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rate", type=float, help=f"highest learning rate (default: {RATES})")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--eager", action="store_true", help="do without torch.compile")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    folder = options.folder or Path("training") / options.model
    steps = options.steps or STEPS[options.model]
    rate = options.rate or RATES[options.model]
    plan = TrainingPlan(steps, options.batch, rate, folder, options.seed)
    if options.model == "clip":
        from lensmesh_shapes.train_clip import train_clip

        train_clip(plan, compiled=not options.eager)
    else:
        from lensmesh_shapes.train_captioner import train_captioner

        train_captioner(plan, compiled=not options.eager)


if __name__ == "__main__":
    main()
