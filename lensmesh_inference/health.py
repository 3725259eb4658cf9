"""The health of a service's models: a canary for each, a watchdog for all, and their findings, joined."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

from lensmesh_inference.canary import Canaries, Canary
from lensmesh_inference.engine import ModelEngine
from lensmesh_inference.health_reasons import HealthReasons
from lensmesh_inference.images.pool import DecodePool
from lensmesh_inference.observer import ModelObserver
from lensmesh_inference.options import HealthOptions
from lensmesh_inference.watchdog import Watchdog

A = TypeVar("A")


class ModelHealth:
    """A watch over every model of a process.

    `tell` is called on the event loop with the reason why the models cannot be trusted, and with "" once they can
    again. `end` ends the process from any thread. It is None in a process that is not the service's own: nothing can be
    done there about what hangs, and nothing watches for it.
    """

    def __init__(
        self,
        options: HealthOptions,
        tell: Callable[[str], None],
        end: Callable[[], None] | None,
        observer: ModelObserver,
    ) -> None:
        self._options = options
        self._observer = observer
        self._reasons = HealthReasons(tell)
        self._watchdog: Watchdog | None = None
        if end is not None and options.hang_s:
            self._watchdog = Watchdog(partial(self._reasons.report, "watchdog"), end, hang_s=options.hang_s)
        self._canaries: list[Canaries[Any]] = []

    async def trust(
        self,
        engine: ModelEngine[Any, Any, Any],
        ask: Callable[[int], Awaitable[A]],
        same: Callable[[A, A], bool],
        *,
        parity: float | None,
    ) -> Canaries[A]:
        """Ask an engine's canaries for the first time, and watch the engine from now on. Raises what the model raises.

        `ask` sends the question to the device of a number. `same` is as of `Canary`. `parity` is the cosine to the
        model's reference, None where it has none.
        """
        name, batcher = engine.batcher.name, engine.batcher
        self._observer.tell_parity(name, parity)
        failing: set[int] = set()
        canaries = Canaries([self._canary(engine, number, ask, same, failing) for number in batcher.working])
        if self._options.canary_s:
            self._observer.watch_canary(name, canaries)
        engine.on_failure = canaries.suspect
        self._canaries.append(canaries)
        if self._watchdog is not None:
            # Before it is asked: it may hang on its very first batch.
            self._watchdog.watch(batcher)
        await canaries.start()
        return canaries

    def _canary(
        self,
        engine: ModelEngine[Any, Any, Any],
        number: int,
        ask: Callable[[int], Awaitable[A]],
        same: Callable[[A, A], bool],
        failing: set[int],
    ) -> Canary[A]:
        """Make the canary of one device.

        It is compared with its own first answer: another device may use another precision.

        `failing` are those of the model's devices that cannot be trusted now.
        """
        batcher = engine.batcher
        name = batcher.name if batcher.devices == 1 else f"{batcher.name} on device {number}"

        async def ask_this() -> A:
            if number in batcher.working or canary.known is None:
                return await ask(number)
            # A device that is lost computes nothing wrong any more.
            return canary.known

        def tell(trouble: str) -> None:
            failing.discard(number)
            if trouble:
                failing.add(number)
            engine.trust(not failing)
            self._reasons.report(name, trouble)

        canary = Canary(
            ask_this,
            same,
            tell,
            name=name,
            every_s=self._options.canary_s,
            timeout_s=self._options.canary_timeout_s,
            batches=lambda: batcher.batches_of(number),
        )
        return canary

    def watch(self, pool: DecodePool) -> None:
        """Watch the threads in which items are prepared, too."""
        if self._watchdog is not None:
            self._watchdog.watch(pool)

    def start(self) -> None:
        """Watch the devices and the event loop from now on. Call it on the event loop, once all models are loaded."""
        if self._watchdog is not None:
            self._watchdog.start()

    async def stop_asking(self) -> None:
        """Stop the canaries. The watchdog goes on, because a model may hang while its engine stops."""
        await asyncio.gather(*(canaries.stop() for canaries in self._canaries))

    def stop(self) -> None:
        """Stop watching. The engines have stopped."""
        if self._watchdog is not None:
            self._watchdog.stop()
