"""The same client for scripts without an event loop."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Awaitable, Callable, Generator
from types import TracebackType
from typing import Concatenate, ParamSpec, Self, TypeVar

from opentelemetry import context as otel_context

from lensmesh_chassis.channels import ChannelSecurity
from lensmesh_client.client import DEFAULT_TARGET, MIB, Client
from lensmesh_client.types import IngestResult

P = ParamSpec("P")
R = TypeVar("R")


def _blocking(
    method: Callable[Concatenate[Client, P], Awaitable[R]],
) -> Callable[Concatenate[SyncClient, P], R]:
    @functools.wraps(method)
    def call(self: SyncClient, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._run(method(self._client, *args, **kwargs))

    return call


def _blocking_each(
    method: Callable[Concatenate[Client, P], object],
) -> Callable[Concatenate[SyncClient, P], Generator[IngestResult]]:
    @functools.wraps(method)
    def call(self: SyncClient, /, *args: P.args, **kwargs: P.kwargs) -> Generator[IngestResult]:
        results = self._client.ingest_many(*args, **kwargs)  # type: ignore[arg-type]  # P is ingest_many's own
        try:
            while True:
                try:
                    yield self._run(anext(results))
                except StopAsyncIteration:
                    return
        finally:
            self._run(results.aclose())

    return call


class SyncClient:
    """`Client` with blocking methods of the same names and arguments; `ingest_many` is a plain generator.

    It runs an event loop in a thread of its own, so it works inside a notebook and next to other loops. Safe to call
    from several threads.

        with SyncClient() as client:
            print(client.search("a cat").hits)
    """

    def __init__(
        self,
        target: str = DEFAULT_TARGET,
        *,
        security: ChannelSecurity | None = None,
        timeout_s: float | None = 30.0,
        max_message_bytes: int = 32 * MIB,
    ) -> None:
        self._client = Client(target, security=security, timeout_s=timeout_s, max_message_bytes=max_message_bytes)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="lensmesh-client", daemon=True)
        self._thread.start()

    def _run(self, work: Awaitable[R]) -> R:
        # What happens there belongs to whatever trace this thread is in.
        here = otel_context.get_current()

        async def done() -> R:
            token = otel_context.attach(here)
            try:
                return await work
            finally:
                otel_context.detach(token)

        future = asyncio.run_coroutine_threadsafe(done(), self._loop)
        try:
            return future.result()
        except BaseException:
            # Ctrl-C reaches the waiting thread, not the loop: the call is given up there too.
            future.cancel()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def target(self) -> str:
        """Where the router is."""
        return self._client.target

    def close(self) -> None:
        """Ends running calls and the thread; the client cannot be used afterwards."""
        if self._loop.is_closed():
            return
        self._run(self._client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    status = _blocking(Client.status)
    ingest = _blocking(Client.ingest)
    ingest_many = _blocking_each(Client.ingest_many)
    search = _blocking(Client.search)
    embed = _blocking(Client.embed)
    caption = _blocking(Client.caption)
