"""The same client for scripts without an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from concurrent.futures import CancelledError
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, Self, TypeVar

from opentelemetry import context as otel_context

from lensmesh_chassis.channels import ChannelSecurity
from lensmesh_chassis.errors import PreconditionFailed
from lensmesh_chassis.reasons import Reason
from lensmesh_client.client import DEFAULT_TARGET, MIB, Client
from lensmesh_client.collections import CollectionCalls
from lensmesh_client.items import ItemCalls
from lensmesh_client.jobs import JobCalls
from lensmesh_client.ownership import closed

P = ParamSpec("P")
R = TypeVar("R")
A = TypeVar("A")

GIVING_UP_S = 5.0


class _Blocks(Protocol):
    """Object that waits for work of the client in its thread."""

    def _run(self, work: Awaitable[R]) -> R: ...


def _blocking(
    method: Callable[Concatenate[A, P], Awaitable[R]], of: Callable[[Any], A]
) -> Callable[Concatenate[Any, P], R]:
    @functools.wraps(method)
    def call(self: _Blocks, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._run(method(of(self), *args, **kwargs))

    return call


def _blocking_each(
    method: Callable[Concatenate[A, P], AsyncGenerator[R]], of: Callable[[Any], A]
) -> Callable[Concatenate[Any, P], Generator[R]]:
    @functools.wraps(method)
    def call(self: _Blocks, /, *args: P.args, **kwargs: P.kwargs) -> Generator[R]:
        results = method(of(self), *args, **kwargs)
        try:
            while True:
                try:
                    yield self._run(anext(results))
                except StopAsyncIteration:
                    return
        finally:
            # Not instead of what the caller's code or Ctrl-C raised.
            with contextlib.suppress(Exception):
                self._run(results.aclose())

    return call


class _LoopThread:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="lensmesh-client", daemon=True)
        self._thread.start()
        self._beginning = threading.Lock()
        self._ended = False

    def run(self, work: Awaitable[R]) -> R:
        """Wait for `work` in this thread, the caller's."""
        # What happens there belongs to whatever trace this thread is in.
        here = otel_context.get_current()
        over = threading.Event()

        async def done() -> R:
            token = otel_context.attach(here)
            try:
                return await work
            finally:
                otel_context.detach(token)
                over.set()

        with self._beginning:
            if self._ended:
                if isinstance(work, Coroutine):
                    work.close()
                raise closed()
            future = asyncio.run_coroutine_threadsafe(done(), self._loop)
        try:
            return future.result()
        except CancelledError:
            # By nobody here: another thread closed the client.
            raise closed() from None
        except BaseException:
            # Ctrl-C reaches the waiting thread, not the loop: the call is given up there too, and has let go of what it
            # held before the caller goes on.
            if future.cancel():
                over.wait(GIVING_UP_S)
            raise

    def end(self, last: Callable[[], Awaitable[None]]) -> None:
        """Give up what other threads wait for, do `last`, and end the thread."""

        async def give_up() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            if others:
                await asyncio.wait(others, timeout=GIVING_UP_S)
            await asyncio.get_running_loop().shutdown_asyncgens()
            await last()

        with self._beginning:
            self._ended = True
        asyncio.run_coroutine_threadsafe(give_up(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def _client(owner: SyncClient) -> Client:
    return owner._client


class _Group(Generic[A]):
    """Blocking methods of one group of a client."""

    def __init__(self, group: A, run: Callable[[Awaitable[Any]], Any]) -> None:
        self._asynchronous = group
        self._run = run


def _collections(owner: _Group[CollectionCalls]) -> CollectionCalls:
    return owner._asynchronous


class SyncCollections(_Group[CollectionCalls]):
    """`Client.collections` with blocking methods of the same names and arguments."""

    create = _blocking(CollectionCalls.create, _collections)
    get = _blocking(CollectionCalls.get, _collections)
    list = _blocking(CollectionCalls.list, _collections)
    build_index = _blocking(CollectionCalls.build_index, _collections)
    delete = _blocking(CollectionCalls.delete, _collections)


def _items(owner: _Group[ItemCalls]) -> ItemCalls:
    return owner._asynchronous


class SyncItems(_Group[ItemCalls]):
    """`Client.items` with blocking methods of the same names and arguments; `list` is a plain generator."""

    upsert = _blocking(ItemCalls.upsert, _items)
    get = _blocking(ItemCalls.get, _items)
    list = _blocking_each(ItemCalls.list, _items)
    delete = _blocking(ItemCalls.delete, _items)
    facets = _blocking(ItemCalls.facets, _items)
    aggregate = _blocking(ItemCalls.aggregate, _items)
    search = _blocking(ItemCalls.search, _items)
    search_many = _blocking(ItemCalls.search_many, _items)


def _jobs(owner: _Group[JobCalls]) -> JobCalls:
    return owner._asynchronous


class SyncJobs(_Group[JobCalls]):
    """`Client.jobs` with blocking methods of the same names and arguments; what it yields is a plain generator."""

    start_delete = _blocking(JobCalls.start_delete, _jobs)
    start_rebuild = _blocking(JobCalls.start_rebuild, _jobs)
    start_calibrate = _blocking(JobCalls.start_calibrate, _jobs)
    start_find_duplicates = _blocking(JobCalls.start_find_duplicates, _jobs)
    read_duplicates = _blocking_each(JobCalls.read_duplicates, _jobs)
    get = _blocking(JobCalls.get, _jobs)
    list = _blocking_each(JobCalls.list, _jobs)
    cancel = _blocking(JobCalls.cancel, _jobs)
    watch = _blocking_each(JobCalls.watch, _jobs)
    wait = _blocking(JobCalls.wait, _jobs)


class SyncClient:
    """`Client` with blocking methods of the same names and arguments; what yields is a plain generator.

    It runs an event loop in a thread of its own, begun by the first call, so it works inside a notebook and next to
    other loops. Safe to call from several threads. Raises LensmeshErrors; Ctrl-C is KeyboardInterrupt, as everywhere.

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
        on_wait: Callable[[str], None] | None = None,
    ) -> None:
        self._client = Client(
            target, security=security, timeout_s=timeout_s, max_message_bytes=max_message_bytes, on_wait=on_wait
        )
        self.collections = SyncCollections(self._client.collections, self._run)
        self.items = SyncItems(self._client.items, self._run)
        self.jobs = SyncJobs(self._client.jobs, self._run)
        self._starting = threading.Lock()
        self._thread: _LoopThread | None = None
        self._closed = False

    def _run(self, work: Awaitable[R]) -> R:
        try:
            thread = self._started()
        except BaseException:
            if isinstance(work, Coroutine):
                work.close()
            raise
        return thread.run(work)

    def _started(self) -> _LoopThread:
        """Return the thread of the event loop. The first call begins it, also where that is after a fork."""
        with self._starting:
            if self._closed:
                raise PreconditionFailed(
                    Reason.CLIENT_UNUSABLE, "this client is closed: make another one where you go on"
                )
            if self._thread is None:
                self._thread = _LoopThread()
            elif self._thread.pid != os.getpid():
                raise PreconditionFailed(
                    Reason.CLIENT_UNUSABLE,
                    "this client was in use before the process was forked, and gRPC does not survive that. Make the "
                    'first call after the fork, or start processes with multiprocessing\'s "spawn"',
                )
            return self._thread

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def target(self) -> str:
        """Address of the router."""
        return self._client.target

    def close(self) -> None:
        """End running calls, those of other threads too, and the thread; the client cannot be used afterwards."""
        with self._starting:
            self._closed = True
            thread, self._thread = self._thread, None
        # In a forked child neither the thread nor gRPC is there to be ended.
        if thread is not None and thread.pid == os.getpid():
            thread.end(self._client.close)

    status = _blocking(Client.status, _client)
    info = _blocking(Client.info, _client)
    ingest = _blocking(Client.ingest, _client)
    ingest_many = _blocking_each(Client.ingest_many, _client)
    search = _blocking(Client.search, _client)
    search_many = _blocking(Client.search_many, _client)
    match = _blocking(Client.match, _client)
    image = _blocking(Client.image, _client)
    embed = _blocking(Client.embed, _client)
    embed_many = _blocking_each(Client.embed_many, _client)
    classify = _blocking(Client.classify, _client)
    caption = _blocking(Client.caption, _client)
    caption_many = _blocking_each(Client.caption_many, _client)
    stream_caption = _blocking_each(Client.stream_caption, _client)
