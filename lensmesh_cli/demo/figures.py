"""The measurements of a demo: throughput, where the time went, and how much was right."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lensmesh_cli.demo.samples import DemoImage
    from lensmesh_client import Client, IngestResult

SEARCHES_AT_ONCE = 16
# Below this the bundled models, or something between them and the caller, are broken.
GOOD_ENOUGH = 0.9


@dataclass(slots=True)
class DemoFigures:
    """The figures of a demo, filled while it runs."""

    images: int = 0
    seconds: float = 0.0
    """The length of the ingest."""
    recall_at_1: float | None = None
    caption_accuracy: float | None = None
    search_ms: float | None = None
    """The mean time of a search by text, as its caller saw it. Many ran at a time."""
    errors: int = 0
    html: str = ""
    parts: list[tuple[str, float]] = field(default_factory=list)
    """Pairs of (part, milliseconds for each image)."""

    @property
    def images_per_second(self) -> float:
        """The rate of the ingest, captions included."""
        return self.images / self.seconds if self.seconds else 0.0

    @property
    def good(self) -> bool:
        """True where nothing failed, and search and captions are right where the truth is known."""
        known = [value for value in (self.recall_at_1, self.caption_accuracy) if value is not None]
        return not self.errors and all(value >= GOOD_ENOUGH for value in known)

    def line(self) -> dict[str, object]:
        """Return the demo's last line as an object."""
        return {
            "images": self.images,
            "seconds": round(self.seconds, 2),
            "images_per_second": round(self.images_per_second, 1),
            "recall_at_1": _rounded(self.recall_at_1),
            "caption_accuracy": _rounded(self.caption_accuracy),
            "errors": self.errors,
            "html": self.html,
        }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def time_shares(results: Sequence[IngestResult]) -> list[tuple[str, float]]:
    """Return the mean milliseconds of each part for one image.

    What a batch took is divided among its images; waiting is not. Parts overlap: while one image is encoded, others are
    decoded, captioned and stored.
    """
    stored = [result for result in results if result.ok]
    if not stored:
        return []

    def mean(values: Sequence[float]) -> float:
        return sum(values) / len(stored) / 1000

    stages = [(result.encode, result.describe) for result in stored]
    return [
        ("decode", mean([encode.preprocess_us + describe.preprocess_us for encode, describe in stages])),
        ("queue", mean([encode.queue_us + describe.queue_us for encode, describe in stages])),
        ("encode", mean([encode.compute_us / max(encode.batch_size, 1) for encode, _ in stages])),
        ("caption", mean([describe.compute_us / max(describe.batch_size, 1) for _, describe in stages])),
        # All items of one transaction carry its duration.
        ("store", mean(list({result.store_us for result in stored}))),
    ]


def caption_accuracy(samples: Sequence[DemoImage], results: Sequence[IngestResult]) -> float:
    """Return the share of images whose caption states every fact. Another true wording counts as true."""
    from lensmesh_shapes import facts_of, same_facts

    right = 0
    for result in results:
        text = result.caption.text if result.caption else ""
        right += same_facts(samples[result.index].facts, facts_of(text))
    return right / max(len(samples), 1)


async def recall_at_1(
    client: Client, samples: Sequence[DemoImage], ids: dict[int, str], collection: str
) -> tuple[float, float]:
    """Return the share of images that their own description finds first, and the mean milliseconds of a search."""
    room = asyncio.Semaphore(SEARCHES_AT_ONCE)
    loop = asyncio.get_running_loop()

    async def one(index: int) -> tuple[bool, float]:
        async with room:
            began = loop.time()
            found = await client.search(samples[index].words, collection=collection, limit=1)
            spent = loop.time() - began
        return bool(found.hits) and found.hits[0].id == ids.get(index), spent

    answers = await asyncio.gather(*(one(index) for index in range(len(samples))))
    right = sum(answer for answer, _ in answers)
    return right / max(len(samples), 1), 1000 * sum(spent for _, spent in answers) / max(len(samples), 1)
