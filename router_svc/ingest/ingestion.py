"""Ingest and IngestStream: options settled first, then items as they come."""

import functools
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from opentelemetry import trace

from lensmesh.router.v1 import router_pb2
from lensmesh_chassis.telemetry import spans
from router_svc.ingest.dependencies import Dependencies, Waits
from router_svc.ingest.items import Incoming, Intake
from router_svc.ingest.metrics import IngestMetrics
from router_svc.ingest.options import ResolvedOptions, check_options, settle
from router_svc.ingest.session import Session, failed
from router_svc.stream import StreamLimits, answers


class Ingestion:
    """Makes images findable."""

    def __init__(self, mesh: Dependencies, streams: StreamLimits, metrics: IngestMetrics) -> None:
        self._mesh = mesh
        self._metrics = metrics
        self._streams = streams

    async def one(self, request: router_pb2.IngestRequest, deadline: float | None) -> router_pb2.IngestedItem:
        """The durable item. Raises what became of it otherwise; nothing waits for a service that is away."""
        with self._metrics.item() as durable:
            done = await self._one(request, deadline)
            durable(done)
            return done

    async def many(
        self,
        first: router_pb2.IngestStreamRequest,
        rest: AsyncIterator[router_pb2.IngestStreamRequest],
        deadline: float | None,
    ) -> AsyncGenerator[list[router_pb2.IngestResult], None]:
        """Groups of answers, as they become final. Raises what concerns the whole stream."""
        waits = Waits.of_a_stream(self._mesh.settings, self._mesh.directory)
        check_options(first.options)
        settle = functools.partial(self._settle, first.options, waits, deadline, streamed=True)
        async with (
            self._mesh.fetcher.for_stream() as fetches,
            Session(self._mesh, await settle(), waits, settle=settle, deadline=deadline) as session,
        ):
            intake = Intake(self._mesh.settings.max_image_bytes, self._mesh.hashing, fetches)

            async def answer(incoming: Incoming) -> router_pb2.IngestResult:
                try:
                    with self._metrics.item() as durable:
                        done = await session.ingest(incoming)
                        durable(done)
                    return router_pb2.IngestResult(ref=incoming.item.ref, item=done)
                except Exception as error:  # noqa: BLE001 - a fault of ours fails one item, not the stream
                    spans.fail(trace.get_current_span(), error)
                    return failed(incoming.item.ref, error)
                finally:
                    fetches.drop(incoming.fetched)

            groups = answers(
                first,
                rest,
                self._streams,
                answer=answer,
                size_of=lambda incoming: incoming.size,
                ref_of=lambda incoming: incoming.item.ref,
                prepare=intake.each,
            )
            async with aclosing(groups):
                async for group in groups:
                    yield group

    async def _one(self, request: router_pb2.IngestRequest, deadline: float | None) -> router_pb2.IngestedItem:
        waits = Waits.of_a_call()
        check_options(request.options)
        async with self._mesh.fetcher.for_call() as fetches:
            intake = Intake(self._mesh.settings.max_image_bytes, self._mesh.hashing, fetches, prefix="item.")
            [incoming] = await intake.read([request.item])
            if incoming.error is not None:
                raise incoming.error
            settle = functools.partial(self._settle, request.options, waits, deadline, streamed=False)
            session = Session(self._mesh, await settle(), waits, settle=settle, prefix="item.", deadline=deadline)
            async with session:
                return await session.ingest(incoming)

    async def _settle(
        self, options: router_pb2.IngestOptions, waits: Waits, deadline: float | None, *, streamed: bool
    ) -> ResolvedOptions:
        collection_cache, pool = self._mesh.collection_cache, self._mesh.encoders.pool
        name = collection_cache.name(options.collection)
        trace.get_current_span().set_attribute(spans.COLLECTION, name)
        collection = await collection_cache.ensure(
            name, patience=waits.store, deadline=deadline, transparency=options.transparency
        )
        return await pool.patiently(
            lambda: settle(options, collection, self._mesh.directory, streamed=streamed),
            waits.encoder,
            deadline=deadline,
        )
