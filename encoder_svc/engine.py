"""From one item to its vector: decode in a pool, queue, compute, normalize. Knows no gRPC and no protobuf."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from encoder_svc.cached import VectorCodec, scope_of
from encoder_svc.model import IMAGE_GROUP, Embedded, EncoderModel, Modality, Prepared, Space, Vector
from encoder_svc.settings import EncoderSettings
from lensmesh_chassis.errors import InternalFault, InvalidInput, PreconditionFailed
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.telemetry import spans
from lensmesh_chassis.telemetry.engine_metrics import EngineMetrics
from lensmesh_inference.batching.batcher import Batcher, Lane, Seat
from lensmesh_inference.cache.levels import Cache
from lensmesh_inference.canary import Canaries
from lensmesh_inference.engine import ModelEngine, Timing, Work
from lensmesh_inference.golden import golden_png
from lensmesh_inference.health import ModelHealth
from lensmesh_inference.images.decoder import ImageDecoder
from lensmesh_inference.images.limits import ImageLimits
from lensmesh_inference.images.pool import DecodePool, open_pool
from lensmesh_inference.images.transparency import Transparency

# The unit vectors of the canary's image and text.
Answers: TypeAlias = tuple[Vector, Vector]

# More than a query or a caption has; a thread does some thousand such texts a second.
SHORT_TEXT_CHARS = 500
GOLDEN_TEXT = "a red disc and a blue square"
# What int8 and bfloat16 lose is ten times less, and what a broken device makes is nowhere near.
CANARY_COSINE = 0.99


@dataclass(frozen=True)
class ImageInput:
    """One encoded image; `field` is its dotted path in the request."""

    content: bytes
    field: str


@dataclass(frozen=True)
class Text:
    """One text; `field` is its dotted path in the request."""

    text: str
    field: str


Item: TypeAlias = ImageInput | Text
EncodeWork: TypeAlias = Work[Prepared, Embedded]


def facts_of(item: Item) -> dict[str, str | int]:
    """What a span may tell of an item."""
    if isinstance(item, ImageInput):
        return {spans.ITEM_KIND: "image", spans.ITEM_BYTES: len(item.content)}
    facts: dict[str, str | int] = {spans.ITEM_KIND: "text", spans.ITEM_BYTES: len(item.text.encode())}
    if spans.shows_content():
        facts[spans.QUERY_TEXT] = item.text
    return facts


@dataclass(frozen=True)
class Encoded:
    """One item's vector, of `space.dimension` numbers."""

    vector: Vector
    space: Space
    truncated: bool
    timing: Timing
    low_content: bool = False
    fully_transparent: bool = False


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
    """One model, and its way from items to vectors."""

    def __init__(
        self, model: EncoderModel, pool: DecodePool, settings: EncoderSettings, metrics: EngineMetrics, cache: Cache
    ) -> None:
        self.model = model
        self.canary: Canaries[Answers] | None = None
        self.engine: ModelEngine[Prepared, Vector, Embedded] = ModelEngine(
            model.workers(),
            name=model.facts.name,
            group_of=lambda prepared: prepared.group,
            finish=self._finish,
            pool=pool,
            settings=settings,
            metrics=metrics,
            cache=cache,
            codec=VectorCodec(model.facts.spaces[0].dimension),
        )

    @property
    def batcher(self) -> Batcher[Prepared, Vector]:
        """Its queue."""
        return self.engine.batcher

    def _finish(self, prepared: Prepared, vector: Vector) -> Embedded:
        if not np.isfinite(vector).all():
            text = f"{self.model.facts.name} made numbers of this item that are none (NaN or infinite)."
            raise InternalFault(Reason.MODEL_FAILED, text)
        return Embedded(vector, prepared.truncated, prepared.low_content, prepared.fully_transparent)

    def size_of(self, item: Item) -> int:
        """Bytes that an item holds until it is answered, decoded and not yet decoded."""
        if isinstance(item, ImageInput):
            return len(item.content) + self.model.facts.image_bytes
        return len(item.text) * 4 + self.model.facts.context_tokens * 8


@dataclass(frozen=True)
class Texts:
    """A maker of tokens from texts."""

    short: DecodePool
    long: DecodePool

    @property
    def pools(self) -> tuple[DecodePool, DecodePool]:
        """Both."""
        return self.short, self.long

    def pool_of(self, text: str) -> DecodePool:
        """Whose turn a text is."""
        return self.long if len(text) > SHORT_TEXT_CHARS else self.short


class Engine:
    """All models of the process and the pool that decodes for them."""

    def __init__(
        self,
        models: Sequence[EncoderModel],
        settings: EncoderSettings,
        metrics: EngineMetrics,
        health: ModelHealth,
        cache: Cache,
    ) -> None:
        self._settings = settings
        self._health = health
        self.pool = open_pool(settings, [device for model in models for device in model.devices()])
        metrics.decoding.watch(self.pool.decoder.counts)
        # Texts have threads of their own, and long ones another than short ones: whatever a text costs, no image
        # and no search's few words wait for it.
        self.texts = Texts(DecodePool(1, name="tokenize"), DecodePool(1, name="tokenize-long"))
        self.served = [Served(model, self.pool, settings, metrics, cache) for model in models]

    async def start(self) -> None:
        """Start the device threads; each model answers its canary, so that no caller is the first."""
        for pool in (self.pool, *self.texts.pools):
            self._health.watch(pool)
        self._health.start()
        for served in self.served:
            await served.batcher.start()
            ask = functools.partial(self._ask, served)
            parity = served.model.facts.parity_cosine
            served.canary = await self._health.trust(served.engine, ask, same_vectors, parity=parity)

    async def stop(self) -> None:
        """Fail what is queued and end all threads."""
        await self._health.stop_asking()
        await asyncio.gather(*(served.batcher.stop() for served in self.served))
        await asyncio.gather(*(pool.close() for pool in (self.pool, *self.texts.pools)))
        self._health.stop()

    async def _ask(self, served: Served, device: int) -> Answers:
        """The canary's question to one device: the vectors of an image and a text that are always the same."""
        job = Job(served, served.model.facts.spaces[0], Lane.INTERACTIVE, None)
        image, text = ImageInput(golden_png(), "canary"), Text(GOLDEN_TEXT, "canary")
        # What callers may send is limited by settings; this is none of theirs. And the model has to answer it itself.
        decoder = self.pool.decoder.within(ImageLimits())
        works = [_work(item, job, decoder, self.texts, cached=False) for item in (image, text)]
        for work in works:
            work.device = device
        with served.engine.admit(works, job.lane) as seat:
            image_done, text_done = [await served.engine.answer(work, seat=seat) for work in works]
        return _unit(image_done.value.vector), _unit(text_done.value.vector)

    def job(self, space_id: str, lane: Lane, deadline: float | None, transparency: Transparency | None = None) -> Job:
        """Who answers in this space; empty means the first model's default, or its first one of `transparency`.

        Raises SPACE_NOT_SERVED, and OPTION_INVALID for a space of another policy.
        """
        if not space_id:
            first = self.served[0]
            suiting = (space for space in first.model.facts.spaces if transparency in (None, space.transparency))
            return Job(first, next(suiting), lane, deadline)
        for served in self.served:
            for space in served.model.facts.spaces:
                if space.id == space_id:
                    _check_policy(space, transparency)
                    return Job(served, space, lane, deadline)
        known = "; ".join(
            f"{space.id} ({space.model}, {'unit length' if space.normalized else 'raw'}, "
            f"{'on white' if space.transparency is Transparency.WHITE else 'alpha dropped'})"
            for served in self.served
            for space in served.model.facts.spaces
        )
        raise PreconditionFailed(
            Reason.SPACE_NOT_SERVED,
            f"Space {space_id} is not served here. Served: {known}. Leave space_id empty for the first.",
            field="options.space_id",
            metadata={"space_id": space_id, "served": known},
        )

    def work(self, item: Item, job: Job) -> EncodeWork:
        """What one item asks of the model. Raises ``InvalidInput`` for a text that is empty or too long."""
        self._check(item)
        return _work(item, job, self.pool.decoder, self.texts)

    async def look_up(self, works: Sequence[EncodeWork], job: Job) -> None:
        """Ask the cache for a whole call's items; what it has needs no room."""
        await job.served.engine.look_up(works)

    def admit(self, works: Sequence[EncodeWork], job: Job) -> AbstractContextManager[Seat | None]:
        """Room for a whole call, or ``Overloaded``; hold it as a context manager and give it to each `encode`."""
        return job.served.engine.admit(works, job.lane)

    async def encode(self, work: EncodeWork, job: Job, *, seat: Seat | None = None) -> Encoded:
        """One vector; without a seat it is looked up in the cache, and waits for room, as streams do.

        Raises what concerns this item alone: bad input, a missed deadline, a model that fails on it.
        """
        done = await job.served.engine.answer(work, seat=seat)
        value = done.value
        return Encoded(
            _unit(value.vector) if job.space.normalized else value.vector,
            job.space,
            value.truncated,
            done.timing,
            value.low_content,
            value.fully_transparent,
        )

    def _check(self, item: Item) -> None:
        if isinstance(item, ImageInput):
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


def _work(item: Item, job: Job, decoder: ImageDecoder, texts: Texts, *, cached: bool = True) -> EncodeWork:
    model = job.served.model
    modality: Modality = "image" if isinstance(item, ImageInput) else "text"
    return Work(
        functools.partial(_prepare, item, model, decoder, job.space.transparency),
        step="decode" if isinstance(item, ImageInput) else "tokenize",
        size_bytes=job.served.size_of(item),
        lane=job.lane,
        deadline=job.deadline,
        pool=texts.pool_of(item.text) if isinstance(item, Text) else None,
        group=IMAGE_GROUP if isinstance(item, ImageInput) else None,
        content=item.content if isinstance(item, ImageInput) else item.text.encode(),
        scope=scope_of(model.facts, modality, job.space.transparency) if cached else "",
    )


def _prepare(item: Item, model: EncoderModel, decoder: ImageDecoder, transparency: Transparency) -> Prepared:
    """In the pool's thread: the item as the model takes it."""
    if isinstance(item, ImageInput):
        return model.prepare_image(item.content, decoder, item.field, transparency)
    return model.prepare_text(item.text)


def _check_policy(space: Space, transparency: Transparency | None) -> None:
    if transparency not in (None, space.transparency):
        raise InvalidInput(
            Reason.OPTION_INVALID,
            f"options.transparency is {transparency}, and the space {space.id} has {space.transparency}: leave one of "
            "the two out.",
            field="options.transparency",
            metadata={"space_id": space.id, "space_transparency": space.transparency},
        )


def same_vectors(known: Answers, answer: Answers) -> bool:
    """Whether two answers to the canary say the same: batches of other sizes round otherwise, and no more than that."""
    return all(float(one @ other) >= CANARY_COSINE for one, other in zip(known, answer, strict=True))


def _unit(vector: Vector) -> Vector:
    # As torch.nn.functional.normalize, in float32 like open_clip's own.
    norm = np.maximum(np.linalg.norm(vector), np.float32(1e-12))
    return np.asarray(vector / norm, dtype=np.float32)
