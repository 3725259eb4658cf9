"""Whether the models of a service can be trusted: a canary for each, a watchdog for all, and what they find, joined."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol, TypeVar

from lensmesh_chassis.errors import InternalFault
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.canary import Canary
from lensmesh_inference.engine import ModelEngine
from lensmesh_inference.pictures.pool import DecodePool
from lensmesh_inference.settings import ModelServiceSettings
from lensmesh_inference.troubles import Troubles
from lensmesh_inference.watchdog import Watchdog

A = TypeVar("A")


class Metrics(Protocol):
    """Who shows canaries and parity."""

    def watch_canary(self, model: str, canary: Canary[Any]) -> None:
        """Show a model's canary from now on."""

    def tell_parity(self, model: str, cosine: float | None) -> None:
        """Show how near a model's answers are to its reference's; None: it has none."""


class ModelHealth:
    """Watches every model of a process.

    `tell` is called on the event loop with why the models cannot be trusted, and with "" once they can again; `end`
    ends the process from any thread. Where it is None, in a process that is not the service's own, nothing can be done
    about what hangs, and nothing watches for it.
    """

    def __init__(
        self,
        settings: ModelServiceSettings,
        tell: Callable[[str], None],
        end: Callable[[], None] | None,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._troubles = Troubles(tell)
        self._watchdog: Watchdog | None = None
        if end is not None and settings.hang_seconds:
            self._watchdog = Watchdog(partial(self._troubles.hear, "watchdog"), end, hang_s=settings.hang_seconds)
        self._canaries: list[Canary[Any]] = []

    async def trust(
        self,
        engine: ModelEngine[Any, Any, Any],
        ask: Callable[[int], Awaitable[A]],
        same: Callable[[A, A], bool],
        *,
        parity: float | None,
    ) -> Canary[A]:
        """Ask an engine's canary for the first time, and watch the engine from now on. Raises what the model raises.

        `ask` sends the question to the device of a number, `same` is as of `Canary`; `parity` is the cosine to the
        model's reference, None where it has none.
        """
        self._metrics.tell_parity(engine.batcher.name, parity)
        name = engine.batcher.name

        def tell(trouble: str) -> None:
            engine.trust(not trouble)
            self._troubles.hear(name, trouble)

        async def ask_each() -> A:
            """One after another, and all have to say the same."""
            first, *others = engine.batcher.working
            answer = await ask(first)
            for number in others:
                if not same(answer, await ask(number)):
                    raise InternalFault(
                        Reason.MODEL_FAILED, f"devices {first} and {number} of {name} differ in what they answer"
                    )
            return answer

        canary = Canary(
            ask_each,
            same,
            tell,
            name=name,
            every_s=self._settings.canary_seconds,
            timeout_s=self._settings.canary_timeout_seconds,
            batches=lambda: engine.batcher.batches,
        )
        if self._settings.canary_seconds:
            self._metrics.watch_canary(name, canary)
        engine.on_failure = canary.suspect
        self._canaries.append(canary)
        if self._watchdog is not None:
            # Before it is asked: it may hang on its very first batch.
            self._watchdog.watch(engine.batcher)
        await canary.start()
        return canary

    def watch(self, pool: DecodePool) -> None:
        """Watch the threads in which items are prepared, too."""
        if self._watchdog is not None:
            self._watchdog.watch(pool)

    def start(self) -> None:
        """Watch the devices and the event loop from now on; to be called on it, once all models are loaded."""
        if self._watchdog is not None:
            self._watchdog.start()

    async def stop_asking(self) -> None:
        """Ask no canary any more. The watchdog goes on: a model may hang while its engine stops."""
        await asyncio.gather(*(canary.stop() for canary in self._canaries))

    def stop(self) -> None:
        """Watch no longer: the engines have stopped."""
        if self._watchdog is not None:
            self._watchdog.stop()
