"""The work that a GPU does behind gRPC: python -m bench.gpu, or bench/gpu.sh on a machine without network.

It measures ViT-L-14 and ViT-B-32 in bfloat16 by EncodeStream, against the pure forward pass with inputs on the device:
images a second from JPEG files of 640x480, with the limiting stage named. It measures captions of BLIP-base and
BLIP-large against transformers' batched generate(). Last, Encoder and Captioner run together on one GPU, and the memory
that they take is read. Weights are random: the arithmetic is the same. `--smoke` runs everything on the CPU, tiny.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import files, stages
from bench.captions import save_random_blip
from bench.machine import this_machine
from bench.measure import read_figures
from bench.services import Service
from bench.stage import Options, Stage
from lensmesh_inference.devices import cpu_count


@dataclass(frozen=True, slots=True)
class Plan:
    """The amount of work."""

    device: str = "cuda"
    precision: str = "bfloat16"
    encoders: tuple[str, ...] = ("ViT-L-14/random", "ViT-B-32/random")
    captioners: tuple[str, ...] = ("base", "large")
    forward_batches: tuple[int, ...] = (64, 128, 256)
    max_batch: int = 128
    caption_batch: int = 64
    tokens: int = 20
    callers: int = 4
    """The number of processes that send images. One alone sends less than a GPU can take."""
    seconds: float = 10.0
    warm: float = 5.0
    images: int = 64

    @property
    def compute(self) -> dict[str, str]:
        """The settings that both kinds of services share. torch is all that computes on a GPU, so without one too."""
        return {"DEVICE": self.device, "PRECISION": self.precision, "BACKEND": "torch"}


SMOKE = Plan("cpu", "float32", ("shapes",), ("tiny",), (4,), 8, 4, 5, 2, 0.5, 0.2, 4)


@dataclass(slots=True)
class Found:
    """The results: lines for people and figures for programs."""

    lines: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    def say(self, line: str) -> None:
        """Print a line at once, and keep it."""
        self.lines.append(line)
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


async def encode(stage: Stage, plan: Plan, model: str, found: Found) -> Service:
    """Measure one encoder against its own forward pass. The service keeps running."""
    forward = await stage.worker("forward-" + _name(model), "bench.workers.forward", model, plan.device, plan.precision)
    rates = {}
    for batch in plan.forward_batches:
        answer = await forward.ask("forward", batch=batch, seconds=plan.seconds / 2, warm=plan.warm / 2)
        rates[batch] = float(answer["rate"])
    await forward.stop()
    best = max(rates, key=lambda batch: rates[batch])
    service = await _encoder(stage, plan, model)
    rate, limiting = await _press(stage, plan, service)
    found.figures[model] = {"forward": rates, "stream": rate, "ratio": rate / rates[best], "limiting": limiting}
    found.say(
        f"{model}: forward alone {rates[best]:.1f}/s (batch {best}), EncodeStream {rate:.1f}/s: "
        f"{rate / rates[best]:.3f}; limited by {limiting}"
    )
    return service


async def caption(stage: Stage, plan: Plan, size: str, folder: Path, found: Found) -> Service:
    """Measure one captioner against generate(). The service keeps running."""
    asked = {"batch": plan.caption_batch, "tokens": plan.tokens, "seconds": plan.seconds, "warm": plan.warm}
    images = str(stage.images)
    worker = await stage.worker(
        f"generate-{size}", "bench.workers.generate", images, str(folder), plan.device, plan.precision
    )
    theirs = read_figures(await worker.ask("captions", **asked))
    await worker.stop()
    service = await _captioner(stage, plan, size, folder)
    caller = await stage.caller(service)
    # Two batches of callers: one is described while the next one comes in. Each call is one image's.
    answer = await caller.ask("captions", **{**asked, "batch": 1, "concurrency": 2 * plan.caption_batch})
    ours = read_figures(answer)
    assert ours.latency_ms is not None
    assert theirs.latency_ms is not None
    found.figures[f"BLIP-{size}"] = {
        "generate": theirs.rate,
        "captions": ours.rate,
        "p99_ms": ours.latency_ms.p99,
        "generate_batch_p99_ms": theirs.latency_ms.p99,
    }
    found.say(
        f"BLIP-{size}: generate() {theirs.rate:.1f}/s in batches of {plan.caption_batch}, "
        f"CaptionImages {ours.rate:.1f}/s with p99 {ours.latency_ms.p99:.0f} ms: {ours.rate / theirs.rate:.2f}"
    )
    return service


async def together(stage: Stage, plan: Plan, encoder: Service, captioner: Service, found: Found) -> None:
    """Measure an Encoder and a Captioner on one device at the same time, and the memory that they take."""
    caller = await stage.caller(captioner)
    asked = {"batch": 1, "tokens": plan.tokens, "concurrency": 2 * plan.caption_batch}
    captions = asyncio.create_task(caller.ask("captions", seconds=plan.seconds, warm=plan.warm, **asked))
    rate, _ = await _press(stage, plan, encoder)
    described = read_figures(await captions)
    memory = await _memory(plan.device, [encoder, captioner])
    found.figures["together"] = {"images": rate, "captions": described.rate, "memory": memory}
    found.say(f"together: {rate:.1f} images/s and {described.rate:.1f} captions/s; memory {memory}")


async def _press(stage: Stage, plan: Plan, service: Service) -> tuple[float, str]:
    """Return the images a second of all callers together, and what limits them."""
    callers = await asyncio.gather(*(stage.caller(service, number) for number in range(plan.callers)))
    asks = [
        asyncio.create_task(caller.ask("stream", items="images", seconds=plan.seconds, warm=plan.warm))
        for caller in callers
    ]
    await asyncio.sleep(plan.warm)
    pids = [caller.pid for caller in callers]
    before = await stages.snapshot(service, pids)
    await asyncio.sleep(0.8 * plan.seconds)
    after = await stages.snapshot(service, pids)
    rate = sum(read_figures(answer).rate for answer in await asyncio.gather(*asks))
    return rate, stages.limiting(stages.shares(before, after, cpu_count()))


async def _encoder(stage: Stage, plan: Plan, model: str) -> Service:
    settings = {**plan.compute, "MAX_BATCH": str(plan.max_batch)}
    return await stage.encoder(f"encoder-{_name(model)}", MODEL=model, **settings)


async def _captioner(stage: Stage, plan: Plan, name: str, folder: Path) -> Service:
    settings = {**plan.compute, "MAX_BATCH": str(plan.caption_batch)}
    return await stage.captioner(f"captioner-{name}", MODEL=f"local-dir:{folder}", **settings)


async def _memory(device: str, services: Sequence[Service]) -> str:
    resident = ", ".join(f"{service.name} {service.memory_bytes / 1e9:.2f} GB" for service in services)
    if not device.startswith("cuda"):
        return f"of the machine: {resident}"
    import torch

    free, total = await asyncio.to_thread(torch.cuda.mem_get_info)
    return f"of the GPU: {(total - free) / 1e9:.2f} of {total / 1e9:.0f} GB; of the machine: {resident}"


def _name(model: str) -> str:
    return model.replace("/", "-")


async def run(plan: Plan, folder: Path, found: Found) -> None:
    """Run everything."""
    files.make_files(folder / "files", plan.images, {(640, 480): 1})
    options = Options(rounds=1, seconds=plan.seconds, warm=plan.warm)
    async with Stage(folder, folder / "files", options) as stage:
        encoders = [await encode(stage, plan, model, found) for model in plan.encoders]
        for service in encoders[1:]:
            await service.stop()
        captioners = []
        for size in plan.captioners:
            saved = save_random_blip(folder / f"blip-{size}", large=size == "large", tiny=size == "tiny")
            captioners.append(await caption(stage, plan, size, saved, found))
        for service in captioners[:-1]:
            await service.stop()
        await together(stage, plan, encoders[0], captioners[-1], found)


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="tiny models on the CPU")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write gpu.json and gpu.md there")
    chosen = parser.parse_args()
    plan, found = (SMOKE if chosen.smoke else Plan()), Found()
    found.say(f"{_device(plan.device)}; {this_machine().title}; {plan.precision}, {plan.seconds:g} s each")
    try:
        with tempfile.TemporaryDirectory(prefix="lensmesh-bench-") as folder:
            asyncio.run(run(plan, Path(folder), found))
    finally:
        # What was measured before a failure is kept too: a GPU's time is dear.
        if chosen.out:
            chosen.out.mkdir(parents=True, exist_ok=True)
            (chosen.out / "gpu.json").write_text(json.dumps(found.figures, indent=1) + "\n")
            (chosen.out / "gpu.md").write_text("\n".join(f"- {line}" for line in found.lines) + "\n")


def _device(device: str) -> str:
    if not device.startswith("cuda"):
        return "CPU"
    import torch

    if not torch.cuda.is_available():
        raise SystemExit("torch sees no GPU here; --smoke runs everything on the CPU")
    return torch.cuda.get_device_name()


if __name__ == "__main__":
    main()
