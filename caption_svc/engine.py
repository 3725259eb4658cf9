"""A served model, from an image to its caption. This module imports neither gRPC nor protobuf."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncGenerator, Callable
from typing import Final

from caption_svc.cached import CaptionCodec, scope_of
from caption_svc.model import Caption, CaptionerInput, CaptionModel, Plan
from caption_svc.models.words import Deltas
from lensmesh_chassis.telemetry import spans
from lensmesh_inference.batching.batcher import Lane
from lensmesh_inference.engine import EngineResources, ModelEngine
from lensmesh_inference.golden import golden_png
from lensmesh_inference.images.decoder import ImageDecoder
from lensmesh_inference.images.limits import ImageLimits
from lensmesh_inference.images.pool import DecodePool
from lensmesh_inference.items import Completed, EngineItem
from lensmesh_inference.registry import ServedModel

# Callers who write prompts of their own have a plan each.
_KNOWN_PLANS: Final = 256


class ServedCaptioner(ServedModel[CaptionModel, Caption, str]):
    """A served model with the engine that makes captions of its images."""

    def __init__(
        self, model: CaptionModel, resources: EngineResources, prompts: DecodePool, *, canary_tokens: int
    ) -> None:
        """Take the model and what it shares with others.

        `prompts` is the pool that makes tokens of prompts. The canary's caption has at most `canary_tokens` tokens.
        """
        engine: ModelEngine[CaptionerInput, Caption, Caption] = ModelEngine(
            model.workers(),
            resources,
            name=model.facts.name,
            group_of=lambda prepared: prepared.plan,
            cost_group=lambda plan: (plan.max_tokens, plan.beams) if isinstance(plan, Plan) else None,
            finish=lambda _, caption: caption,
            codec=CaptionCodec(),
        )
        super().__init__(model, engine)
        self._decoder = resources.pool.decoder
        self._prompts = prompts
        self._canary_tokens = canary_tokens
        # Of one plan it is always the same, and costs as much as all else that an item is told.
        self._scope_of = functools.lru_cache(_KNOWN_PLANS)(functools.partial(scope_of, model.facts))

    async def plan(self, prompt: str, max_tokens: int, beams: int) -> Plan:
        """Make a plan as `CaptionModel.plan` does. A prompt is tokenized in a thread, off the event loop."""
        if not prompt:
            return self.model.plan(prompt, max_tokens, beams)
        return await self._prompts.run(self.model.plan, prompt, max_tokens, beams)

    def item(
        self,
        content: bytes,
        plan: Plan,
        *,
        field: str,
        on_text: Callable[[str], None] | None = None,
        decoder: ImageDecoder | None = None,
    ) -> EngineItem[CaptionerInput, Caption]:
        """Return the engine's item for one image; `field` is the image's dotted path in its request.

        `on_text` is called in another thread while the caption grows. It is not called where the cache has the caption,
        or where the caption is already made for another caller. `decoder` decodes the image in place of the pool's own
        decoder.
        """
        abandoned = threading.Event()

        def prepare() -> CaptionerInput:
            pixels = self.model.prepare(content, decoder or self._decoder, field, plan.transparency)
            return CaptionerInput(pixels, plan, on_text, abandoned)

        return EngineItem(
            prepare=prepare,
            size_bytes=len(content) + self.model.input_bytes,
            group=plan,
            content=content,
            scope=self._scope_of(plan),
            given_up=abandoned.set,
            attributes=lambda: {spans.ITEM_BYTES: len(content)},
        )

    async def run_by_word(
        self, content: bytes, plan: Plan, *, lane: Lane, field: str, deadline: float | None = None
    ) -> AsyncGenerator[str | Completed[Caption], None]:
        """Yield the caption piece by piece, leading spaces included, then the whole. The pieces joined are its text.

        A caption that is known already comes in one piece. The image is in batches like any other. Closing the iterator
        stops the image's generation between two tokens. Raises ``Overloaded`` where there is no room.
        """
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[str | None] = asyncio.Queue()
        deltas = Deltas(pieces.put_nowait)

        def on_text(text: str) -> None:
            loop.call_soon_threadsafe(deltas.grow, text)

        item = self.item(content, plan, field=field, on_text=on_text)
        task = asyncio.create_task(self.engine.run_one(item, lane=lane, deadline=deadline))
        task.add_done_callback(lambda _: pieces.put_nowait(None))
        try:
            while (piece := await pieces.get()) is not None:
                yield piece
            completed = await task
            deltas.grow(completed.value.text)
            if not pieces.empty() and (last := pieces.get_nowait()):
                yield last
            yield completed
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def ask(self, device: int) -> str:
        """Ask one device for the caption of the canary's image, which is always the same."""
        plan = self.model.plan("", self._canary_tokens, 1)
        # What callers may send is limited by settings; this is none of theirs.
        decoder = self._decoder.within(ImageLimits())
        item = self.item(golden_png(), plan, field="canary", decoder=decoder)
        (caption,) = await self.engine.probe([item], device=device)
        return caption.text

    def same(self, known: str, answer: str) -> bool:
        """Return whether two answers to the canary have the same words."""
        return known == answer
