"""One served model: decoding beside it, its queue, its canary. Knows no gRPC and no protobuf."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeAlias

from caption_svc.cached import CaptionCodec, scope_of
from caption_svc.captioner import Caption, CaptionModel, Job, Plan
from caption_svc.models.words import Deltas
from caption_svc.settings import CaptionSettings
from lensmesh_chassis.telemetry.engine_metrics import EngineMetrics
from lensmesh_inference.batching.batcher import Batcher, Lane, Seat
from lensmesh_inference.cache.levels import Cache
from lensmesh_inference.engine import ModelEngine, Timing, Work
from lensmesh_inference.golden import golden_png
from lensmesh_inference.images.pool import DecodePool

CaptionWork: TypeAlias = Work[Job, Caption]


@dataclass(frozen=True)
class Described:
    """A caption and where its time went."""

    caption: Caption
    timing: Timing


class Captioner:
    """Describes images with one model."""

    def __init__(
        self,
        model: CaptionModel,
        pool: DecodePool,
        prompts: DecodePool,
        settings: CaptionSettings,
        metrics: EngineMetrics,
        cache: Cache,
    ) -> None:
        """`pool` decodes images, `prompts` makes tokens: neither waits for the other."""
        self.model = model
        self._pool = pool
        self._prompts = prompts
        self.engine: ModelEngine[Job, Caption, Caption] = ModelEngine(
            model.workers(),
            name=model.facts.name,
            group_of=lambda job: job.plan,
            cost_group=lambda plan: (plan.max_tokens, plan.beams) if isinstance(plan, Plan) else None,
            finish=lambda _, caption: caption,
            pool=pool,
            settings=settings,
            metrics=metrics,
            cache=cache,
            codec=CaptionCodec(),
        )

    @property
    def batcher(self) -> Batcher[Job, Caption]:
        """Its queue."""
        return self.engine.batcher

    async def plan(self, prompt: str, max_tokens: int, beams: int) -> Plan:
        """`CaptionModel.plan`, off the event loop where there is something to tokenize."""
        if not prompt:
            return self.model.plan(prompt, max_tokens, beams)
        return await self._prompts.run(self.model.plan, prompt, max_tokens, beams)

    def work(
        self,
        content: bytes,
        plan: Plan,
        *,
        lane: Lane,
        field: str,
        deadline: float | None = None,
        on_text: Callable[[str], None] | None = None,
        cached: bool = True,
    ) -> CaptionWork:
        """What one image asks of the model. `deadline` is a time of the event loop's clock.

        `field` is the image's dotted path in its request; `on_text` is called in another thread while the caption
        grows, unless the cache has it or it is made for somebody else. `cached` False has the model itself answer.
        """
        abandoned = threading.Event()

        def prepare() -> Job:
            pixels = self.model.prepare(content, self._pool.decoder, field, plan.transparency)
            return Job(pixels, plan, on_text, abandoned)

        return Work(
            prepare,
            step="decode",
            size_bytes=len(content) + self.model.input_bytes,
            lane=lane,
            deadline=deadline,
            group=plan,
            content=content,
            scope=scope_of(self.model.facts, plan) if cached else "",
            given_up=abandoned.set,
        )

    async def look_up(self, works: Sequence[CaptionWork]) -> None:
        """Ask the cache for a whole call's images; what it has needs no room."""
        await self.engine.look_up(works)

    def admit(self, works: Sequence[CaptionWork], lane: Lane) -> AbstractContextManager[Seat | None]:
        """Room for a whole call; raises ``Overloaded`` where there is none."""
        return self.engine.admit(works, lane)

    async def describe(self, work: CaptionWork, *, seat: Seat | None = None) -> Described:
        """Decode one image and describe it, or say what the cache has.

        Without a seat it is looked up, and waits for room in its lane, as streams do. Cancelling stops it wherever it
        is: waiting, or between two tokens, unless somebody else waits for the same. Raises ``InvalidInput`` for a bad
        image, and what `Batcher.submit` raises.
        """
        done = await self.engine.answer(work, seat=seat)
        return Described(done.value, done.timing)

    async def describe_by_word(
        self, content: bytes, plan: Plan, *, lane: Lane, field: str, deadline: float | None = None
    ) -> AsyncGenerator[str | Described, None]:
        """The caption piece by piece, leading spaces included, then the whole. The pieces joined are its text.

        A caption that is known already comes in one piece. The image rides in batches like any other; closing the
        iterator stops it between two tokens.
        """
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[str | None] = asyncio.Queue()
        deltas = Deltas(pieces.put_nowait)

        def on_text(text: str) -> None:
            loop.call_soon_threadsafe(deltas.grow, text)

        work = self.work(content, plan, lane=lane, field=field, deadline=deadline, on_text=on_text)
        await self.look_up([work])
        with self.admit([work], lane) as seat:
            task = asyncio.create_task(self.describe(work, seat=seat))
            task.add_done_callback(lambda _: pieces.put_nowait(None))
            try:
                while (piece := await pieces.get()) is not None:
                    yield piece
                described = await task
                deltas.grow(described.caption.text)
                if not pieces.empty() and (last := pieces.get_nowait()):
                    yield last
                yield described
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    def canary(self, max_tokens: int) -> Callable[[int], Awaitable[str]]:
        """The canary's question to one device: what an image that is always the same shows."""
        content, plan = golden_png(), self.model.plan("", max_tokens, 1)

        async def ask(device: int) -> str:
            work = self.work(content, plan, lane=Lane.INTERACTIVE, field="canary", cached=False)
            work.device = device
            with self.admit([work], Lane.INTERACTIVE) as seat:
                return (await self.describe(work, seat=seat)).caption.text

        return ask
