"""Health that follows the store: it is checked on a timer, and troubles are told in words an operator can act on."""

import asyncio

from lensmesh_chassis.errors import LensmeshError
from lensmesh_chassis.process.health import HealthState
from lensmesh_chassis.telemetry.logging import get_logger
from search_svc.store import Store, StoreRefused

_log = get_logger(__name__)

WRITES = "writes"
"""A name of health that is SERVING while items can be written; reads may work without."""


class StoreWatch:
    """Watcher of the store.

    It opens the store, again and again until that works, and then checks it every `interval_s` seconds.
    """

    def __init__(self, store: Store, health: HealthState, service: str, interval_s: float) -> None:
        self._store = store
        self._health = health
        self._service = service
        self._interval_s = interval_s
        self._opened = False
        self._said: str | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to watch. Return after the first check, whatever it found."""
        await self._look()
        self._task = asyncio.create_task(self._keep_looking())

    async def stop(self) -> None:
        """Stop watching."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            await self._look()

    async def _look(self) -> None:
        reason = await self._why_not()
        if reason:
            self._health.not_serving(self._service, reason)
        else:
            self._health.serving(self._service)
        trouble = "" if reason else self._store.write_trouble()
        self._health.set_part_reason(WRITES, reason or (f"store: {trouble}" if trouble else ""))
        reason = reason or (f"store: {trouble}" if trouble else "")
        if reason != self._said:
            self._said = reason
            if reason:
                _log.warning("the store cannot be used" if not trouble else "the store cannot be written", why=reason)
            else:
                _log.info("the store is ready", store=self._store.describe())

    async def _why_not(self) -> str:
        """Return why the store cannot be used; empty if it can."""
        try:
            if self._opened:
                await self._store.check()
            else:
                await self._store.open()
                self._opened = True
        except LensmeshError as error:
            return f"store: {error.message}"
        except StoreRefused as error:
            return f"store: {error}"
        except Exception:  # noqa: BLE001 - whatever it is, the watch must go on, and the log says what it was
            _log.exception("looking at the store failed")
            return "store: an unexpected error, see this service's log"
        return ""
