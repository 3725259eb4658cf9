"""The typed asynchronous client of a lensmesh router."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

from lensmesh.caption.v1 import caption_pb2
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.channels import ChannelSecurity
from lensmesh_client import mesh, requests, translate_mesh
from lensmesh_client.captioning import CaptionerCalls
from lensmesh_client.classifying import ClassifierCalls
from lensmesh_client.collections import CollectionCalls
from lensmesh_client.connection import Connection
from lensmesh_client.encoding import EncoderCalls
from lensmesh_client.ingesting import IngestCalls
from lensmesh_client.items import ItemCalls
from lensmesh_client.jobs import JobCalls
from lensmesh_client.matching import MatchCalls
from lensmesh_client.media import MediaCalls
from lensmesh_client.searching import SearchCalls

DEFAULT_TARGET = "127.0.0.1:50050"
MIB = 1024 * 1024


class Client(IngestCalls, SearchCalls, MatchCalls, MediaCalls, EncoderCalls, ClassifierCalls, CaptionerCalls):
    """Asks one router. Every method raises LensmeshError's subclasses, and nothing else of gRPC's.

    The channel opens with the first call, in the event loop that makes it, so a client may be made anywhere, a
    notebook's cell included. `collections` and `items` are what the mesh stores, and `jobs` is work on
    it that takes longer than a call.

        async with Client() as client:
            await client.ingest("cat.jpg")
            found = await client.search(text="a cat")
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
        """Make a client; nothing is connected yet.

        Args:
            target: "host:port" or "unix:/path"; a DNS name of several routers is spread over all of them.
            security: The certificates for TLS; None means plain text.
            timeout_s: Each call's deadline in seconds, where the call names none of its own; None sets none.
            max_message_bytes: The largest message that is sent or taken.
            on_wait: Told every few seconds while a call has no answer: what the mesh says it waits for.

        Raises:
            InvalidInput: `timeout_s` is no number of seconds.
        """
        self._connection = Connection(target, security, timeout_s, max_message_bytes, on_wait)
        self.collections = CollectionCalls(self._connection)
        self.items = ItemCalls(self._connection)
        self.jobs = JobCalls(self._connection)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def target(self) -> str:
        """Address of the router."""
        return self._connection.target

    async def close(self) -> None:
        """End running calls, by PreconditionFailed where they are awaited; the next call opens a new channel."""
        await self._connection.close()

    async def status(self, *, timeout_s: float | None = None) -> mesh.MeshStatus:
        """Tell of every service behind the router: address, health, models, memory, limits.

        Args:
            timeout_s: Seconds until an answer; None is the client's own.

        Returns:
            Every replica of every service, those that do not answer included.

        Raises:
            Unavailable: No router answers.
            LensmeshError: Any other failure.
        """
        answer = await self._connection.call(
            self._connection.router.GetStatus, router_pb2.GetStatusRequest(), timeout_s
        )
        return translate_mesh.status(answer)

    async def info(self, kind: mesh.ServiceKind | str, *, timeout_s: float | None = None) -> mesh.ServiceInfo:
        """Tell what one kind of service answers with: models and their spaces, limits, the store.

        Args:
            kind: "encoder", "caption" or "search".
            timeout_s: Seconds until an answer; None is the client's own.

        Returns:
            The same from whichever replica answers; `status` tells of each.

        Raises:
            InvalidInput: There is no such kind of service.
            Unavailable: No service of that kind answers.
            LensmeshError: Any other failure.
        """
        connection = self._connection
        kinds = {each: each for each in mesh.ServiceKind}
        match requests.chosen("kind", kind, mesh.ServiceKind, kinds):
            case mesh.ServiceKind.ENCODER:
                encoder = await connection.call(connection.encoder.GetInfo, encoder_pb2.GetInfoRequest(), timeout_s)
                return translate_mesh.encoder(encoder)
            case mesh.ServiceKind.CAPTION:
                captioner = await connection.call(connection.captioner.GetInfo, caption_pb2.GetInfoRequest(), timeout_s)
                return translate_mesh.captioner(captioner)
            case mesh.ServiceKind.SEARCH:
                search = await connection.call(connection.search.GetInfo, search_pb2.GetInfoRequest(), timeout_s)
                return translate_mesh.search(search)
