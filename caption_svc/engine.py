"""One served model: decoding beside it, its queue, its canary. Knows no gRPC and no protobuf."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass

from caption_svc.captioner import Caption, CaptionModel, Job, Plan
from caption_svc.models.words import Deltas
from caption_svc.settings import CaptionSettings
from lensmesh_chassis.telemetry.engine_metrics import EngineMetrics
from lensmesh_inference.batching.batcher import Batcher, Lane, Seat
from lensmesh_inference.engine import ModelEngine, Timing, Work
from lensmesh_inference.golden import golden_png
from lensmesh_inference.pictures.decoder import PictureDecoder
from lensmesh_inference.pictures.pool import DecodePool


@dataclass(frozen=True)
class Described:
    """A caption and where its time went."""

    caption: Caption
    timing: Timing


class Captioner:
    """Describes pictures with one model."""

    def __init__(
        self, model: CaptionModel, pool: DecodePool, settings: CaptionSettings, metrics: EngineMetrics
    ) -> None:
        self.model = model
        self._pool = pool
        self._decoder = PictureDecoder(settings.image_limits)
        self.engine: ModelEngine[Job, Caption, Caption] = ModelEngine(
            model.workers(),
            name=model.facts.name,
            group_of=lambda job: job.plan,
            cost_group=lambda plan: (plan.max_tokens, plan.beams) if isinstance(plan, Plan) else None,
            finish=lambda _, caption: caption,
            pool=pool,
            settings=settings,
            metrics=metrics,
        )

    @property
    def batcher(self) -> Batcher[Job, Caption]:
        """Its queue."""
        return self.engine.batcher

    async def plan(self, prompt: str, max_tokens: int, beams: int) -> Plan:
        """`CaptionModel.plan`, off the event loop where there is something to tokenize."""
        if not prompt:
            return self.model.plan(prompt, max_tokens, beams)
        return await self._pool.run(self.model.plan, prompt, max_tokens, beams)

    def admit(self, sizes: list[int], lane: Lane, deadline: float | None = None) -> Seat:
        """Room for a whole call, given the bytes of its encoded pictures; raises ``Overloaded`` where there is none."""
        return self.engine.admit([self._held(size) for size in sizes], lane, deadline)

    async def describe(
        self,
        content: bytes,
        plan: Plan,
        *,
        lane: Lane,
        field: str,
        deadline: float | None = None,
        seat: Seat | None = None,
        on_text: Callable[[str], None] | None = None,
    ) -> Described:
        """Decode one picture and describe it. `deadline` is a time of the event loop's clock.

        Without a seat it waits for room in its lane, as streams do. `on_text` is called in another thread. Cancelling
        stops it wherever it is: waiting, or between two tokens. Raises ``InvalidInput`` naming `field` for a bad
        picture, and what `Batcher.submit` raises.
        """
        abandoned = threading.Event()

        def prepare() -> Job:
            return Job(self.model.prepare(content, self._decoder, field), plan, on_text, abandoned)

        work = Work(
            prepare, step="decode", size_bytes=self._held(len(content)), lane=lane, deadline=deadline, group=plan
        )
        try:
            done = await self.engine.answer(work, seat=seat)
        finally:
            abandoned.set()
        return Described(done.value, done.timing)

    async def describe_by_word(
        self, content: bytes, plan: Plan, *, lane: Lane, field: str, deadline: float | None = None
    ) -> AsyncGenerator[str | Described, None]:
        """The caption piece by piece, leading spaces included, then the whole. The pieces joined are its text.

        The picture rides in batches like any other; closing the iterator stops it between two tokens.
        """
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[str | None] = asyncio.Queue()
        deltas = Deltas(pieces.put_nowait)

        def on_text(text: str) -> None:
            loop.call_soon_threadsafe(deltas.grow, text)

        with self.admit([len(content)], lane, deadline) as seat:
            task = asyncio.create_task(
                self.describe(content, plan, lane=lane, field=field, deadline=deadline, seat=seat, on_text=on_text)
            )
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

    def canary(self, max_tokens: int) -> Callable[[], Awaitable[str]]:
        """The canary's question: what a picture that is always the same shows."""
        content, plan = golden_png(), self.model.plan("", max_tokens, 1)

        async def ask() -> str:
            with self.admit([len(content)], Lane.INTERACTIVE) as seat:
                described = await self.describe(content, plan, lane=Lane.INTERACTIVE, field="canary", seat=seat)
            return described.caption.text

        return ask

    def _held(self, encoded_bytes: int) -> int:
        return encoded_bytes + self.model.input_bytes
