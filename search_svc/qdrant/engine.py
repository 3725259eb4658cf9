"""Access to Qdrant: its gRPC API, or the client's local mode in a thread of its own. Both do the same work."""

import asyncio
import fcntl
import functools
import os
import sqlite3
import ssl
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import grpc
from qdrant_client import AsyncQdrantClient
from qdrant_client.connection import header_adder_async_interceptor
from qdrant_client.local.async_qdrant_local import AsyncQdrantLocal

from lensmesh_chassis.channels import OWN_CONNECTIONS
from lensmesh_chassis.rpc.client_calls import (
    BeginCall,
    ClientInterceptor,
    OutgoingCall,
    begins_of,
    tell_end,
    tell_unmade,
)
from lensmesh_chassis.rpc.handlers import RpcMethod
from lensmesh_chassis.telemetry import tracing
from lensmesh_chassis.tls.credentials import ChannelSecurity, channel_credentials
from search_svc.qdrant.address import Folder, QdrantAddress
from search_svc.qdrant.faults import translated
from search_svc.refusals import too_late
from search_svc.store import StoreRefused
from search_svc.threads import Threads

T = TypeVar("T")
Work = Callable[[AsyncQdrantClient], Coroutine[Any, Any, T]]
# The client's own limit for a call is whole seconds and the same for all: ours is the call's deadline, so this one
# never comes first.
_CLIENT_TIMEOUT_S = 86_400
_KEEPALIVE_MS = 20_000
_OPTIONS: dict[str, Any] = {
    "grpc.keepalive_time_ms": _KEEPALIVE_MS,
    "grpc.keepalive_timeout_ms": _KEEPALIVE_MS // 2,
    # A server that comes back is found within seconds, not after gRPC's two minutes of back-off.
    "grpc.initial_reconnect_backoff_ms": 200,
    # How long one attempt may take, despite its name: some round trips with TLS over a long way.
    "grpc.min_reconnect_backoff_ms": 5_000,
    "grpc.max_reconnect_backoff_ms": 5_000,
    "grpc.max_send_message_length": -1,
    "grpc.max_receive_message_length": -1,
    "grpc.service_config_disable_resolution": 1,
}


class QdrantEngine(Protocol):
    """Runner of work on a client. Work never waits for anything but the client."""

    @property
    def local(self) -> bool:
        """True where this is local mode, which has neither indexes nor a version of its own."""

    @property
    def is_busy(self) -> bool:
        """True where other work waits until what is done now is done, as in local mode: it is there, and late."""

    async def run(self, work: Work[T], *, timeout_s: float) -> T:
        """Do `work` and return its result.

        Raises:
            Gone, There: about the collection that a call of `work` names.
            Unavailable: not reachable now.
            DeadlineExceeded: after `timeout_s`; the server is told, local mode finishes what it does.
        """

    async def beside(self, work: Callable[[], T], size_bytes: int) -> T:
        """Do `work` that takes long without waiting for anything, so that the event loop need not wait for it."""

    async def close(self) -> None:
        """Release everything."""


class Remote:
    """Access to a server. gRPC looks after the connections: lost ones are made anew.

    Args:
        address: where to.
        security: by which files a TLS server is known; none: by the system's authorities.
        tracer_provider: makes a span of each call, and passes the trace on; None: neither.
    """

    local = False
    is_busy = False

    def __init__(self, address: QdrantAddress, security: ChannelSecurity, tracer_provider: Any | None = None) -> None:
        self._address = address
        self._security = security
        self._tracer_provider = tracer_provider
        self._client: AsyncQdrantClient | None = None
        self._threads = Threads("qdrant-points")

    async def run(self, work: Work[T], *, timeout_s: float) -> T:
        if self._client is None:
            self._client = self._connected()
        try:
            async with asyncio.timeout(timeout_s):
                with translated():
                    return await work(self._client)
        except TimeoutError:
            raise too_late() from None

    async def beside(self, work: Callable[[], T], size_bytes: int) -> T:
        return await self._threads.run(work, size_bytes)

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()
        self._threads.stop()

    def _connected(self) -> AsyncQdrantClient:
        address = self._address
        client = AsyncQdrantClient(
            host=address.host,
            grpc_port=address.port,
            prefer_grpc=True,
            https=address.tls,
            timeout=_CLIENT_TIMEOUT_S,
            # It would ask the REST port, which need not be open.
            check_compatibility=False,
            pool_size=1,
            # Nothing goes by REST: its client need not read the system's authorities, and trusts none.
            verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        )
        # The client makes its channels without our interceptors, which carry the trace on: it is given one instead.
        remote: Any = client._client
        remote._grpc_channel_pool = [self._channel()]
        return client

    def _channel(self) -> grpc.aio.Channel:
        address = self._address
        headers = [("api-key", address.api_key)] if address.api_key else []
        target, options = f"{address.host}:{address.port}", [*_OPTIONS.items(), OWN_CONNECTIONS]
        # The client's own answers with a bare message, where spans need the call: it comes first.
        interceptors = [
            header_adder_async_interceptor(headers),
            _Traced(tracing.client_interceptors(self._tracer_provider, target)),
        ]
        if not address.tls:
            return grpc.aio.insecure_channel(target, options, interceptors=interceptors)
        return grpc.aio.secure_channel(target, channel_credentials(self._security), options, interceptors=interceptors)


class _Traced(grpc.aio.UnaryUnaryClientInterceptor):
    """Our interceptors within one of gRPC's, since the client's own is one."""

    def __init__(self, interceptors: Sequence[ClientInterceptor]) -> None:
        self._interceptors = interceptors
        self._begins: dict[str, list[BeginCall]] = {}

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        name = client_call_details.method
        path = name.decode() if isinstance(name, bytes) else name
        begins = self._begins.get(path)
        if begins is None:
            begins = self._begins[path] = begins_of(self._interceptors, RpcMethod(path, False, False))
        making = OutgoingCall(list(client_call_details.metadata or ()))
        ends = [end for begin in begins if (end := begin(making)) is not None]
        try:
            call = await continuation(client_call_details._replace(metadata=making.metadata), request)
        except BaseException as error:
            tell_unmade(ends, error)
            raise
        call.add_done_callback(functools.partial(tell_end, ends))
        return call


class _LocalClient(AsyncQdrantClient):
    """Local mode that closes what it deletes: by itself it leaves open files to the garbage collector."""

    async def delete_collection(self, collection_name: str, *rest: Any, **more: Any) -> bool:
        """Close the collection's files, then delete as inherited."""
        collections = cast(AsyncQdrantLocal, self._client).collections
        if collection_name in collections:
            collections[collection_name].close()
        return await super().delete_collection(collection_name, *rest, **more)


class Local:
    """Local mode. It computes in the caller's thread and keeps its files open there, so one thread does all its work.

    Args:
        folder: where it keeps its files; one process at a time can.
    """

    local = True

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._pool: ThreadPoolExecutor | None = None
        self._client: AsyncQdrantClient | None = None
        self._lock: int | None = None
        self._open: set[Future[Any]] = set()

    @property
    def is_busy(self) -> bool:
        return bool(self._open)

    async def run(self, work: Work[T], *, timeout_s: float) -> T:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="qdrant-local")
        doing = self._pool.submit(self._do, work)
        self._open.add(doing)
        # In the thread, when it is done, or at once where nobody waits any more before it has begun.
        doing.add_done_callback(self._open.discard)
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.wrap_future(doing)
        except TimeoutError:
            raise too_late() from None

    async def beside(self, work: Callable[[], T], size_bytes: int) -> T:
        # There already.
        return work()

    async def close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            await asyncio.get_running_loop().run_in_executor(pool, self._close)
            pool.shutdown(wait=False)

    def _do(self, work: Work[T]) -> T:
        with translated():
            if self._client is None:
                self._client = self._opened()
            return _finished(work(self._client))

    def _opened(self) -> AsyncQdrantClient:
        # It says once that it is slow with more items than it was made for, which docs/stores.md says too.
        warnings.filterwarnings("ignore", message="Local mode is not recommended")
        path = self._folder.path
        if path == ":memory:":
            return _LocalClient(location=path)
        try:
            Path(path).mkdir(parents=True, exist_ok=True)
            # The client has a lock too, but takes it after it has read everything.
            lock = os.open(Path(path, "lensmesh.lock"), os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise StoreRefused(f"the folder {path} cannot be used: {error.strerror}") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Without the check it also saves a look at how SQLite was built, by a database that it leaves open.
            client = _LocalClient(path=path, force_disable_check_same_thread=True)
        except (BlockingIOError, RuntimeError):
            os.close(lock)
            raise StoreRefused(f"the folder {path} is in use: Qdrant's local mode serves one process") from None
        except (OSError, ValueError, KeyError, TypeError, sqlite3.Error) as error:
            os.close(lock)
            raise StoreRefused(
                f"the folder {path} cannot be read ({type(error).__name__}): restore it from a backup, or name another"
            ) from error
        self._lock = lock
        return client

    def _close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            _finished(client.close())
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def make_engine(
    address: QdrantAddress | Folder, security: ChannelSecurity, tracer_provider: Any | None
) -> QdrantEngine:
    """Return the engine for an address. Nothing is connected yet."""
    return Local(address) if isinstance(address, Folder) else Remote(address, security, tracer_provider)


def _finished(work: Awaitable[T]) -> T:
    """Return the result of a coroutine that never waits: none of local mode's does."""
    coroutine: Any = work
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    coroutine.close()
    raise AssertionError("local mode waited for something")
