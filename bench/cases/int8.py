"""Models in 8 bits: how fast they are, and how near their answers are to float32."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.cases.images import of
from bench.files import make_files
from bench.measure import Case, Results
from bench.stage import Stage
from bench.worker import WorkerError

INT8 = {"PRECISION": "int8", "BACKEND": "openvino"}
IMAGES = 96
SIZE = {(640, 480): 1}
# What is learnt from and what is judged by show different photographs.
LEARNT, UNSEEN = slice(0, 3), slice(3, 6)


async def calibration(stage: Stage) -> Path:
    """Make a folder of photographs for calibration."""
    folder = stage.folder / "calibration"
    await asyncio.to_thread(make_files, folder, IMAGES, SIZE, LEARNT)
    return folder


async def stream(stage: Stage, learnt: Path) -> Case:
    """Make the case of the Encoder with weights and activations in 8 bits."""
    encoder = await stage.encoder("encoder-int8", **INT8, CALIBRATION_DIR=str(learnt))
    return of(await stage.caller(encoder), "int8-stream", "EncodeStream, int8", "stream", items="images")


async def nearness(stage: Stage, learnt: Path, results: Results, say: Callable[[str], None]) -> None:
    """Measure how near int8 is to float32.

    `extra["int8_cosine"]` is the lowest cosine to float32 on photographs. `extra["int8_lost"]` is the loss of recall@1
    on drawn scenes.
    """
    unseen = stage.folder / "unseen"
    await asyncio.to_thread(make_files, unseen, IMAGES, SIZE, UNSEEN)
    report = await _evaluate(
        "--model", stage.options.model, "--calibration-dir", str(learnt), "--pictures", str(unseen)
    )
    cosine = report["cosine"]
    say(f"int8 on photographs: cosine to float32 {cosine['lowest']:.5f} at least, {cosine['mean']:.5f} on average")
    scenes = await _evaluate("--model", "shapes")
    recalls = [scenes[which]["recall_at_1"] for which in ("float32", "asked")]
    say("recall@1 of held-out scenes: {:.4f} in float32, {:.4f} in int8".format(*recalls))
    results.extra |= {"int8_cosine": [cosine["lowest"]], "int8_lost": [recalls[0] - recalls[1]]}


async def _evaluate(*arguments: str) -> Any:
    command = (sys.executable, "-m", "encoder_svc.evaluate", "--precision", "int8", *arguments)
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    answer, log = await process.communicate()
    if process.returncode:
        raise WorkerError(f"{' '.join(command[1:])} ended with {process.returncode}:\n{log.decode()[-2000:]}")
    return json.loads(answer)
