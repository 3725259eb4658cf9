"""Ingest and IngestStream: options settled first, then items as they come."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing

from opentelemetry import trace

from lensmesh.router.v1 import router_pb2
from lensmesh_chassis.images.fetching import Fetches
from lensmesh_chassis.telemetry import spans
from router_svc.call_scope import CallScope
from router_svc.ingest.dependencies import Dependencies, IngestScopes
from router_svc.ingest.items import Incoming, Intake
from router_svc.ingest.metrics import IngestMetrics
from router_svc.ingest.options import OptionsResolver, check_options
from router_svc.ingest.session import Session, failed
from router_svc.stream import StreamLimits, answers


class Ingestion:
    """Makes images findable."""

    def __init__(self, dependencies: Dependencies, streams: StreamLimits, metrics: IngestMetrics) -> None:
        self._dependencies = dependencies
        self._metrics = metrics
        self._streams = streams

    async def ingest_one(self, request: router_pb2.IngestRequest, scope: CallScope) -> router_pb2.IngestedItem:
        """Return the durable item. Raises what became of it otherwise; nothing waits for a service that is away."""
        dependencies = self._dependencies
        with self._metrics.item() as counted:
            scopes = IngestScopes.of_a_call(scope)
            check_options(request.options)
            async with dependencies.fetcher.for_call() as fetches:
                intake = Intake(dependencies.settings.max_image_bytes, dependencies.hashing, fetches, scope)
                [incoming] = await intake.read([request.item])
                if incoming.error is not None:
                    raise incoming.error
                resolver = OptionsResolver(dependencies, request.options, scopes, streamed=False)
                async with Session(dependencies, resolver, await resolver.resolve(), scopes) as session:
                    done = await session.ingest(incoming)
            counted.durable(done)
            return done

    async def ingest_stream(
        self,
        first: router_pb2.IngestStreamRequest,
        rest: AsyncIterator[router_pb2.IngestStreamRequest],
        scope: CallScope,
    ) -> AsyncGenerator[list[router_pb2.IngestResult], None]:
        """Yield groups of answers, as they become final. Raises what concerns the whole stream."""
        dependencies = self._dependencies
        scopes = IngestScopes.of_a_stream(scope, dependencies.settings, dependencies.directory)
        check_options(first.options)
        resolver = OptionsResolver(dependencies, first.options, scopes, streamed=True)
        async with (
            dependencies.fetcher.for_stream() as fetches,
            Session(dependencies, resolver, await resolver.resolve(), scopes) as session,
        ):
            intake = Intake(dependencies.settings.max_image_bytes, dependencies.hashing, fetches, scope)
            work = _IngestStreamWork(session, intake, fetches, self._metrics)
            async with aclosing(answers(first, rest, self._streams, work)) as groups:
                async for group in groups:
                    yield group


class _IngestStreamWork:
    """Work of one IngestStream on its items; as StreamWork."""

    def __init__(self, session: Session, intake: Intake, fetches: Fetches, metrics: IngestMetrics) -> None:
        self._session = session
        self._intake = intake
        self._fetches = fetches
        self._metrics = metrics

    def prepare(self, items: Sequence[router_pb2.IngestItem]) -> AsyncGenerator[Incoming, None]:
        return self._intake.each(items)

    def size_of(self, item: Incoming) -> int:
        return item.size + self._session.bytes_beside_image

    def ref_of(self, item: Incoming) -> str:
        return item.ref

    async def answer(self, item: Incoming) -> router_pb2.IngestResult:
        try:
            with self._metrics.item() as counted:
                done = await self._session.ingest(item)
                counted.durable(done)
            return router_pb2.IngestResult(ref=item.ref, item=done)
        except Exception as error:  # noqa: BLE001 - a fault of ours fails one item, not the stream
            spans.fail(trace.get_current_span(), error)
            return failed(item.ref, error)
        finally:
            self._fetches.drop(item.fetched)
