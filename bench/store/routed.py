"""Text searches through a Router, with an Encoder that costs nothing, in collections of several sizes, in turns."""

import asyncio
import itertools
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc

from bench.processor import process_s
from bench.services import Service
from bench.store.drawn import GROUPS, HITS, RARE, SERIES, spread
from lensmesh.router.v1 import router_pb2, router_pb2_grpc
from lensmesh_chassis.channels import DIRECT

_PATIENCE_S = 60.0
_WARM = 10


@asynccontextmanager
async def mesh(store_url: str) -> AsyncIterator[Mapping[str, Service]]:
    """Run Search before a store that is there, a mock Encoder and a Router, as processes."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lensmesh-bench-")))
        search = Service("search", "search", folder, {"STORE_URL": store_url})
        encoder = Service("encoder", "encoder", folder, {"MODEL": "mock", "CACHE_BYTES": "0"})
        for service in (search, encoder):
            stack.push_async_callback(service.stop)
            await service.start()
        targets = {"ENCODER_TARGETS": encoder.address, "CAPTION_TARGETS": "", "SEARCH_TARGETS": search.address}
        router = Service("router", "router", folder, targets)
        stack.push_async_callback(router.stop)
        await router.start()
        yield {"router": router, "encoder": encoder, "search": search}


def _requests(collection: str) -> Mapping[str, Callable[[int], router_pb2.SearchRequest]]:
    """Return for each kind of search what makes the request of a number."""

    def text(number: int) -> router_pb2.SearchRequest:
        return router_pb2.SearchRequest(
            collection=collection, queries=[router_pb2.Query(text=f"a photo of the number {number}")], limit=HITS
        )

    def filtered(field: str, value: str) -> Callable[[int], router_pb2.SearchRequest]:
        def request(number: int) -> router_pb2.SearchRequest:
            made = text(number)
            made.filter.condition.field = field
            made.filter.condition.equals.string_value = value
            return made

        return request

    def words(number: int) -> router_pb2.SearchRequest:
        query = router_pb2.Query(caption_text=RARE.format(number % SERIES))
        return router_pb2.SearchRequest(collection=collection, queries=[query], limit=HITS)

    return {
        "text": text,
        f"text, a filter that 1 in {GROUPS} passes": filtered("group", "g7"),
        f"text, a filter that 1 in {SERIES:,} passes": filtered("series", "s7"),
        f"words of 1 caption in {SERIES:,}": words,
    }


async def measure(store_url: str, collections: Sequence[str], *, searches: int, rounds: int) -> AsyncIterator[str]:
    """Yield lines of figures: p50, p95 and p99 in milliseconds, and the processor time of the services."""
    async with mesh(store_url) as services, grpc.aio.insecure_channel(services["router"].address, [DIRECT]) as channel:
        stub = router_pb2_grpc.RouterServiceStub(channel)
        # Other texts each time: what a service remembers helps it nothing.
        numbers = itertools.count()

        async def ask(request: Callable[[int], router_pb2.SearchRequest]) -> float:
            begun = time.perf_counter()
            answer = await stub.Search(request(next(numbers)), timeout=_PATIENCE_S)
            took = 1e3 * (time.perf_counter() - begun)
            if not answer.hits:
                raise ValueError("no hit")
            return took

        cases = {(name, size): make for size in collections for name, make in _requests(size).items()}
        took: dict[tuple[str, str], list[float]] = {case: [] for case in cases}
        spent = dict.fromkeys(cases, 0.0)
        for number in range(rounds + 1):
            for case, make in cases.items():
                before = sum(process_s(service.pid) for service in services.values())
                times = [await ask(make) for _ in range(searches if number else _WARM)]
                if number:
                    took[case] += times
                    spent[case] += sum(process_s(service.pid) for service in services.values()) - before
            await asyncio.sleep(0)
        for (name, collection), times in took.items():
            figures = " / ".join(f"{spread(times)[key]:,.2f}" for key in ("p50", "p95", "p99"))
            cpu = 1e3 * spent[name, collection] / len(times)
            of_first = spread(times)["p50"] / spread(took[name, collections[0]])["p50"]
            of_text = spread(times)["p50"] / spread(took["text", collection])["p50"]
            yield (
                f"{collection} through the Router, {name}: {figures} ms; {of_first:.2f} of the smallest collection,"
                f" {of_text:.2f} of text; {cpu:.2f} ms of processor time of the three services"
            )
