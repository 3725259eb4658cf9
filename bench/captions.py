"""Captions a second: BLIP-base as the captioner computes it, and transformers' own generate(), in turn.

python -m bench.captions              16 images a round, batches of 16, 20 tokens each
python -m bench.captions --smoke      a tiny model: does it still run?

There is no server and no queue: bench/engine.py measures these. The model has BLIP-base's size and random weights,
which never end a caption, so that all cases write the same number of tokens. Images are JPEG photographs, and the time
includes their decoding.
"""

from __future__ import annotations

import argparse
import io
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from PIL import Image

from bench.files import make_files
from bench.machine import this_machine
from bench.measure import Spread
from caption_svc.model import Caption, CaptionerInput
from caption_svc.models.blip import BlipCaptioner, load_blip
from lensmesh_inference.backends import openvino_import
from lensmesh_inference.backends.folder import CompiledFolder
from lensmesh_inference.devices import cpu_count, cpu_has_bfloat16
from lensmesh_inference.images.decoder import ImageDecoder
from lensmesh_inference.images.limits import ImageLimits
from lensmesh_inference.models import ModelKind
from lensmesh_inference.options import ComputeOptions

hub: Any = transformers
Describe = Callable[[Sequence[bytes]], int]
"""A function that describes images, and returns the number of tokens written."""

TINY = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
_SPECIAL = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]"}


def save_random_blip(folder: Path, *, large: bool = False, tiny: bool = False) -> Path:
    """Save a captioner as the hub has it, of BLIP-base's or BLIP-large's size. Its random weights never end a caption.

    The weights are the same each time. `tiny` serves to find out whether a program runs.
    """
    torch.manual_seed(0)
    vision: dict[str, Any] = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24}
    vision = {**vision, "num_attention_heads": 16} if large else {}
    if tiny:
        vision = {**TINY, "image_size": 32, "patch_size": 8}
    # transformers' default, 1e-10, would leave nothing of an image.
    config = hub.BlipConfig(text_config=TINY if tiny else {}, vision_config={**vision, "initializer_range": 0.02})
    network = hub.BlipForConditionalGeneration(config)
    with torch.no_grad():
        network.text_decoder.cls.predictions.bias[config.text_config.sep_token_id] = -1e4
    network.save_pretrained(folder)
    vocabulary = {_SPECIAL.get(number, f"word{number}"): number for number in range(config.text_config.bos_token_id)}
    side = config.vision_config.image_size
    images = hub.BlipImageProcessor(size={"height": side, "width": side})
    hub.BlipProcessor(images, hub.BertTokenizer(vocab=vocabulary)).save_pretrained(folder)
    return folder


class Transformers:
    """The use of generate() that transformers documents."""

    def __init__(self, folder: Path, dtype: torch.dtype, tokens: int) -> None:
        self._model = hub.BlipForConditionalGeneration.from_pretrained(folder, dtype=dtype).eval()
        self._processor = hub.BlipProcessor.from_pretrained(folder)
        self._dtype = dtype
        self._tokens = tokens

    def one_by_one(self, images: Sequence[bytes]) -> int:
        """Make a call for each image."""
        return sum(self.together([content]) for content in images)

    def together(self, images: Sequence[bytes]) -> int:
        """Make one call for all images."""
        opened = [Image.open(io.BytesIO(content)).convert("RGB") for content in images]
        inputs = self._processor(images=opened, return_tensors="pt").to(self._dtype)
        sequences = self._model.generate(**inputs, max_new_tokens=self._tokens, do_sample=False)
        self._processor.batch_decode(sequences, skip_special_tokens=True)
        # Without the begin token.
        return int(sequences[:, 1:].numel())


class Ours:
    """A worker of the captioner, as the service's batcher calls it."""

    def __init__(self, captioner: BlipCaptioner, tokens: int) -> None:
        self._captioner = captioner
        self._describe = captioner.workers()[0]
        self._decoder = ImageDecoder(ImageLimits())
        self._plan = captioner.plan("", tokens, 1)

    def together(self, images: Sequence[bytes]) -> int:
        """Describe one batch."""
        prepared = [self._captioner.prepare(content, self._decoder, "image") for content in images]
        answers = self._describe([CaptionerInput(pixels, self._plan) for pixels in prepared])
        return sum(answer.token_count for answer in answers if isinstance(answer, Caption))


def in_batches(describe: Describe, size: int, images: Sequence[bytes]) -> int:
    """Describe the images, `size` of them at a time."""
    return sum(describe(images[start : start + size]) for start in range(0, len(images), size))


def make_cases(folder: Path, compiled: Path, tokens: int, batch: int) -> dict[str, Describe]:
    """Make the cases, by their title. Numbers are bfloat16 where the processor has it, else float32."""
    precision = "bfloat16" if cpu_has_bfloat16() else "float32"
    documented = Transformers(folder, torch.float32, tokens)
    batched = documented if precision == "float32" else Transformers(folder, torch.bfloat16, tokens)
    cases: dict[str, Describe] = {
        "transformers, float32, one by one": documented.one_by_one,
        f"transformers, {precision}, batched": partial(in_batches, batched.together, batch),
    }
    for backend in ("torch", "openvino") if openvino_import.installed() else ("torch",):
        compute = ComputeOptions(
            device="cpu",
            backend=backend,
            precision=precision,
            threads=cpu_count(),
            folder=CompiledFolder(compiled),
        )
        ours = Ours(load_blip(folder, name="random", kind=ModelKind.LOCAL, compute=compute), tokens)
        cases[f"captioner, {backend} {precision}, batched"] = partial(in_batches, ours.together, batch)
    return cases


def measure(cases: Mapping[str, Describe], images: Sequence[bytes], tokens: int, rounds: int) -> dict[str, list[float]]:
    """Measure the captions a second of each case in each round, the cases in turn."""
    rates: dict[str, list[float]] = {title: [] for title in cases}
    for describe in cases.values():
        describe(images[:1])
    for _ in range(rounds):
        for title, describe in cases.items():
            began = time.perf_counter()
            made = describe(images)
            seconds = time.perf_counter() - began
            if made != len(images) * tokens:
                raise RuntimeError(f"{title} made {made} tokens instead of {len(images) * tokens}")
            rates[title].append(len(images) / seconds)
            sys.stderr.write(f"{title}: {rates[title][-1]:.3f} captions/s\n")
    return rates


def table(rates: Mapping[str, Sequence[float]]) -> str:
    """Return a Markdown table of the smallest, median and largest rate of each case.

    Two columns compare it with the first and the second case of the same round.
    """
    first, second, *_ = rates.values()
    lines = ["| | captions/s, min / median / max | of one by one | of batched |", "|---|---|---|---|"]
    for title, found in rates.items():
        ratios = [
            f"{Spread.of([one / other for one, other in zip(found, base, strict=True)]).median:.2f}"
            for base in (first, second)
        ]
        lines.append(f"| {title} | {Spread.of(found):.3f} | {' | '.join(ratios)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", dest="images", type=int, default=16, help="images described in each round")
    parser.add_argument("--batch", type=int, default=16, help="images described together")
    parser.add_argument("--tokens", type=int, default=20, help="tokens of each caption")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--smoke", action="store_true", help="a tiny model")
    chosen = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    torch.set_num_threads(cpu_count())
    with tempfile.TemporaryDirectory(prefix="lensmesh-bench-") as scratch:
        here = Path(scratch)
        files = make_files(here / "images", chosen.images, {(640, 480): 1})
        folder = save_random_blip(here / "model", tiny=chosen.smoke)
        cases = make_cases(folder, here / "compiled", chosen.tokens, chosen.batch)
        rates = measure(cases, [path.read_bytes() for path in files], chosen.tokens, chosen.rounds)
    sys.stdout.write(f"{this_machine().title}, batches of {chosen.batch}, {chosen.tokens} tokens\n\n{table(rates)}\n")


if __name__ == "__main__":
    main()
