"""A BLIP of a few thousand random weights, and a model with a device's faults."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from caption_svc.model import Caption, CaptionerInput
from caption_svc.models.mock import MockCaptioner
from lensmesh_inference.batching.faults import OutOfMemory
from lensmesh_inference.options import ComputeOptions

TINY = "acme/tiny-blip"
WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "a",
    "an",
    "the",
    "red",
    "green",
    "blue",
    "cat",
    "dog",
    "man",
    "'",
    "s",
    "don",
    "t",
    "n",
    "do",
    "hat",
    "tree",
    "house",
    "car",
    ",",
    ".",
    "!",
    "and",
    "with",
    "on",
    "in",
    "of",
    "picture",
    "photo",
    "walk",
    "##ing",
    "##ed",
    "big",
    "small",
    "two",
    "three",
    "near",
    "is",
    "are",
    "it",
    "very",
    "old",
    "new",
]
ON_CPU = ComputeOptions(device="cpu", backend="torch", precision="float32")
END, POSITIONS = WORDS.index("[SEP]"), 48


def save_tiny_blip(folder: Path) -> None:
    """Random, but loud enough that every image gets a caption of its own, some ending early and some cut."""
    torch.manual_seed(5)
    hub: Any = transformers
    text = {"vocab_size": len(WORDS) + 1, "max_position_embeddings": POSITIONS, "bos_token_id": len(WORDS)}
    special = {"sep_token_id": END, "pad_token_id": 0, "eos_token_id": 2}
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    vision = {"image_size": 32, "patch_size": 8, "initializer_range": 0.2}
    model = hub.BlipForConditionalGeneration(
        hub.BlipConfig(text_config=text | special | size, vision_config=vision | size)
    ).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 2 and "embeddings" not in name:
                weight.mul_(10 if "crossattention" in name else 5)
        model.text_decoder.cls.predictions.bias[END] += 3.0
        embeddings = model.text_decoder.bert.embeddings
        for embedding in (embeddings.word_embeddings, embeddings.position_embeddings):
            embedding.weight.mul_(25)
    model.save_pretrained(folder)
    tokenizer = hub.BertTokenizer(vocab={word: number for number, word in enumerate(WORDS)})
    hub.BlipProcessor(hub.BlipImageProcessor(size={"height": 32, "width": 32}), tokenizer).save_pretrained(folder)


class FakeModel(MockCaptioner):
    """The mock with a model's faults and a device that can be held up."""

    def __init__(self) -> None:
        super().__init__("fake")
        self.open = threading.Event()  # cleared: the device hangs until it is set
        self.open.set()
        self.poison: set[bytes] = set()  # digests that crash the batch they ride in
        self.batches: list[list[CaptionerInput]] = []
        self.prefix = ""  # changes every answer
        self.capacity = 1000  # images that fit into its memory; found out when all is written

    def caption(self, jobs: Sequence[CaptionerInput]) -> list[Caption]:
        self.batches.append(list(jobs))
        assert self.open.wait(30)
        if any(job.pixels in self.poison for job in jobs):
            raise RuntimeError("the device does not like this batch; secret detail")
        answers = [Caption(self.prefix + one.text, one.confidence, 1, False) for one in super().caption(jobs)]
        if len(jobs) > self.capacity:
            raise OutOfMemory("the last word was one too many")
        return answers
