"""From one item to its vector: decode in a pool, queue, compute, normalize. Knows no gRPC and no protobuf."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from PIL import Image

from encoder_svc.model import EncoderModel, Prepared, Space, Vector
from encoder_svc.settings import EncoderSettings
from lensmesh_chassis.errors import InvalidInput, PreconditionFailed
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.telemetry import spans
from lensmesh_chassis.telemetry.engine_metrics import EngineMetrics
from lensmesh_inference.batching.batcher import Batcher, Lane, Seat
from lensmesh_inference.pictures.pool import DecodePool


@dataclass(frozen=True)
class Picture:
    """One encoded picture; `field` is its dotted path in the request."""

    content: bytes
    field: str


@dataclass(frozen=True)
class Text:
    """One text; `field` is its dotted path in the request."""

    text: str
    field: str


Item: TypeAlias = Picture | Text


def facts_of(item: Item) -> dict[str, str | int]:
    """What a span may tell of an item."""
    if isinstance(item, Picture):
        return {spans.ITEM_KIND: "image", spans.ITEM_BYTES: len(item.content)}
    facts: dict[str, str | int] = {spans.ITEM_KIND: "text", spans.ITEM_BYTES: len(item.text.encode())}
    if spans.shows_content():
        facts[spans.QUERY_TEXT] = item.text
    return facts


@dataclass(frozen=True)
class Timing:
    """Where one item's time went, in microseconds."""

    queue_us: int
    preprocess_us: int
    compute_us: int
    total_us: int
    batch_size: int


@dataclass(frozen=True)
class Encoded:
    """One item's vector, of `space.dimension` numbers."""

    vector: Vector
    space: Space
    truncated: bool
    timing: Timing


@dataclass(frozen=True)
class Job:
    """What holds for every item of one call: where to, in which lane, until when (of the event loop's clock)."""

    served: Served
    space: Space
    lane: Lane
    deadline: float | None

    @property
    def facts(self) -> dict[str, str]:
        """What a span tells of it."""
        return {
            spans.MODEL: self.served.model.facts.name,
            spans.SPACE_ID: self.space.id,
            spans.LANE: self.lane.name.lower(),
        }


class Served:
    """One model, its queue and its device's thread."""

    def __init__(self, model: EncoderModel, settings: EncoderSettings, metrics: EngineMetrics) -> None:
        self.model = model
        self.batcher: Batcher[Prepared, Vector] = Batcher(
            model.compute,
            name=model.facts.name,
            max_batch=settings.max_batch,
            max_queue_items=settings.max_queue_items,
            max_queue_bytes=settings.max_queue_bytes,
            observer=metrics.observe(model.facts.name, [lane.name.lower() for lane in Lane]),
        )
        metrics.watch(self.batcher)

    def size_of(self, item: Item) -> int:
        """Bytes that an item holds until it is answered, decoded and not yet decoded."""
        if isinstance(item, Picture):
            return len(item.content) + self.model.facts.image_bytes
        return len(item.text) * 4 + self.model.facts.context_tokens * 8


class Engine:
    """All models of the process and the pool that decodes for them."""

    def __init__(self, models: Sequence[EncoderModel], settings: EncoderSettings, metrics: EngineMetrics) -> None:
        self._settings = settings
        self._limits = settings.image_limits
        self.pool = DecodePool(settings.decode_threads)
        self.served = [Served(model, settings, metrics) for model in models]

    async def start(self) -> None:
        """Start the device threads; one text and one picture through each model, so that no caller is the first."""
        picture = Picture(_grey_png(), "image")
        for served in self.served:
            await served.batcher.start()
            job = Job(served, served.model.facts.spaces[0], Lane.INTERACTIVE, None)
            await self.encode(Text("warm-up", "text"), job)
            await self.encode(picture, job)

    async def stop(self) -> None:
        """Fail what is queued and end all threads."""
        await asyncio.gather(*(served.batcher.stop() for served in self.served))
        await self.pool.close()

    def job(self, space_id: str, lane: Lane, deadline: float | None) -> Job:
        """Who answers in this space; empty means the first model's default. Raises SPACE_NOT_SERVED."""
        if not space_id:
            return Job(self.served[0], self.served[0].model.facts.spaces[0], lane, deadline)
        for served in self.served:
            for space in served.model.facts.spaces:
                if space.id == space_id:
                    return Job(served, space, lane, deadline)
        known = "; ".join(
            f"{space.id} ({space.model}, {'unit length' if space.normalized else 'raw'})"
            for served in self.served
            for space in served.model.facts.spaces
        )
        raise PreconditionFailed(
            Reason.SPACE_NOT_SERVED,
            f"Space {space_id} is not served here. Served: {known}. Leave space_id empty for the first.",
            field="options.space_id",
            metadata={"space_id": space_id, "served": known},
        )

    def admit(self, items: Sequence[Item], job: Job) -> Seat:
        """Room for a whole call, or ``Overloaded``; hold it as a context manager and give it to each `encode`."""
        size = sum(job.served.size_of(item) for item in items)
        return job.served.batcher.admit(job.lane, items=len(items), size_bytes=size)

    async def encode_when_room(self, item: Item, job: Job) -> Encoded:
        """As `encode`, waiting for room instead of being refused: for streams, which are read no further meanwhile."""
        arrived = time.monotonic()
        await job.served.batcher.room(job.lane)
        with self.admit([item], job) as seat:
            return await self.encode(item, job, seat=seat, arrived=arrived)

    async def encode(self, item: Item, job: Job, *, seat: Seat | None = None, arrived: float | None = None) -> Encoded:
        """One vector. Raises what concerns this item alone: bad input, a missed deadline, a model that fails on it."""
        arrived = time.monotonic() if arrived is None else arrived
        self._check(item)
        with spans.span("decode" if isinstance(item, Picture) else "tokenize"):
            prepared, preprocess_s = await self.pool.run(self._prepare, item, job, lane=job.lane)
        job.served.batcher.observer.prepared(preprocess_s)
        before_queue_s = time.monotonic() - arrived
        answer = await job.served.batcher.submit(
            prepared,
            lane=job.lane,
            size_bytes=job.served.size_of(item),
            group=prepared.modality,
            deadline=job.deadline,
            seat=seat,
        )
        vector = _unit(answer.value) if job.space.normalized else answer.value
        timing = Timing(
            queue_us=answer.queue_us + int((before_queue_s - preprocess_s) * 1e6),
            preprocess_us=int(preprocess_s * 1e6),
            compute_us=answer.compute_us,
            total_us=int((time.monotonic() - arrived) * 1e6),
            batch_size=answer.batch_size,
        )
        return Encoded(vector, job.space, prepared.truncated, timing)

    def _check(self, item: Item) -> None:
        if isinstance(item, Picture):
            return
        if not item.text.strip():
            raise InvalidInput(Reason.TEXT_EMPTY, f"{item.field} is empty: send at least one word.", field=item.field)
        limit = self._settings.max_text_chars
        if len(item.text) > limit:
            raise InvalidInput(
                Reason.TEXT_TOO_LONG,
                f"{item.field} has {len(item.text)} characters, the limit is {limit}: shorten it.",
                field=item.field,
                metadata={"chars": len(item.text), "max_text_chars": limit},
            )

    def _prepare(self, item: Item, job: Job) -> tuple[Prepared, float]:
        """In the pool's thread: the item as the model takes it, and the seconds that took."""
        started = time.monotonic()
        model = job.served.model
        if isinstance(item, Picture):
            prepared = model.prepare_image(item.content, self._limits, item.field)
        else:
            prepared = model.prepare_text(item.text)
        return prepared, time.monotonic() - started


def _grey_png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "grey").save(file, "PNG")
    return file.getvalue()


def _unit(vector: Vector) -> Vector:
    # As torch.nn.functional.normalize, in float32 like open_clip's own.
    norm = np.maximum(np.linalg.norm(vector), np.float32(1e-12))
    return np.asarray(vector / norm, dtype=np.float32)
