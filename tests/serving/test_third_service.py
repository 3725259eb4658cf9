"""A third model service, built out of the page that tells how, is called: everything that the page promises."""

from __future__ import annotations

import asyncio
import importlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from PIL import Image

from lensmesh.common.v1 import common_pb2
from lensmesh_chassis.channels import OWN_CONNECTIONS
from lensmesh_chassis.process.server import RunningServer, running
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import from_rpc_error, from_status
from tests.serving.third_service import ROOT, build
from tests.support.spans_kept import Traced, id_of, links_of, named, parent_of
from tests.support.waiting import until

SERVICE = "lensmesh.colour.v1.ColourService"
ORANGE, TEAL = (250, 120, 10), (10, 120, 130)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the service lies."""
    path = tmp_path_factory.mktemp("colour")
    assert len(build(path)) == 8
    return path


@pytest.fixture(scope="module")
def modules(folder: Path) -> Iterator[Any]:
    """Gives modules of the service by their names."""
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield importlib.import_module
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            if "colour" in name:
                del sys.modules[name]


@dataclass
class Colours:
    """The service in this process, with a device that can be held; `leave` drains and stops it."""

    server: RunningServer
    stub: Any
    pb2: Any
    batcher: Any
    free: threading.Event
    traced: Traced
    leave: Any

    async def images(self, *colours: tuple[int, int, int] | bytes) -> Any:
        images = [common_pb2.Image(content=one if isinstance(one, bytes) else png(one)) for one in colours]
        return await self.stub.ColourImages(self.pb2.ColourImagesRequest(images=images), timeout=60)

    async def health(self) -> int:
        async with grpc.aio.insecure_channel(self.server.address, [OWN_CONNECTIONS]) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            return int((await stub.Check(health_pb2.HealthCheckRequest(service=SERVICE))).status)


@pytest.fixture
async def colours(modules: Any) -> AsyncIterator[Colours]:
    model, app, settings = (modules(f"colour_svc.{name}") for name in ("model", "app", "settings"))
    free, traced, apps = threading.Event(), Traced(), []
    free.set()

    class Held(model.MeanColour):  # type: ignore[misc, name-defined] # known at run time only
        def compute(self, batch: Any) -> Any:
            assert free.wait(60)
            return super().compute(batch)

    def serve(runtime: Any) -> Any:
        apps.append(app.ColourApp(runtime, lambda _: [Held()]))
        return apps[0]

    told = settings.ColourSettings(
        listen="127.0.0.1:0", metrics_listen="127.0.0.1:0", max_items=4, max_image_pixels=900
    )
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(running(told, serve, "colour", tracer_provider=traced.provider))
        leave = stack.pop_all()
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(server.address, [OWN_CONNECTIONS]))
        pb2, grpc_ = modules("lensmesh.colour.v1.colour_pb2"), modules("lensmesh.colour.v1.colour_pb2_grpc")
        stub = grpc_.ColourServiceStub(channel)
        try:
            yield Colours(server, stub, pb2, apps[0].models.default.batcher, free, traced, leave.aclose)
        finally:
            free.set()
            await leave.aclose()
            traced.provider.shutdown()


def png(colour: tuple[int, int, int], side: int = 24) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(file, "PNG")
    return file.getvalue()


def rgb(result: Any) -> tuple[int, ...]:
    return tuple(round(value) for value in (result.colour.red, result.colour.green, result.colour.blue))


async def refused(call: Any) -> Any:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value)


async def test_calls_are_answered_batched_cached_and_shown(colours: Colours) -> None:
    assert await colours.health() == health_pb2.HealthCheckResponse.SERVING
    colours.free.clear()
    first = asyncio.ensure_future(colours.images(ORANGE))
    await until(lambda: bool(colours.batcher.running()))
    others = [asyncio.ensure_future(colours.images(*images)) for images in ([TEAL, (1, 2, 3)], [(4, 5, 6)])]
    await until(lambda: colours.batcher.queued_items == 3)
    colours.free.set()
    results = [result for call in [first, *others] for result in (await call).results]
    assert [rgb(result) for result in results] == [ORANGE, TEAL, (1, 2, 3), (4, 5, 6)]
    # What came while the device was busy was computed together, whoever sent it.
    assert [result.timings.batch_size for result in results] == [1, 3, 3, 3]
    again = (await colours.images(TEAL)).results[0]
    assert (rgb(again), again.timings.cache) == (TEAL, common_pb2.CACHE_OUTCOME_HIT)

    info = await colours.stub.GetInfo(colours.pb2.GetInfoRequest())
    assert (info.models[0].name, info.limits.max_items) == ("mean", 4)
    assert info.models[0].HasField("canary_age")
    url = f"http://{colours.server.metrics_address}/metrics"
    shown = await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=30).read().decode())
    for line in (
        'lensmesh_engine_batch_items_count{model="mean"} 3.0',  # the canary's, and two
        'lensmesh_engine_canary_ok{model="mean"} 1.0',
        'lensmesh_cache_requests_total{model="mean",outcome="hit"} 1.0',
    ):
        assert line in shown


async def test_an_item_is_a_tree_of_spans(colours: Colours) -> None:
    await colours.images(ORANGE)
    spans = await colours.traced.spans(6)
    (item,) = named(spans, "item")
    assert {"lensmesh.model": "mean", "lensmesh.item.kind": "image"}.items() <= dict(item.attributes or {}).items()
    steps = [named(spans, name)[0] for name in ("decode", "queue", "forward")]
    assert {parent_of(step) for step in steps} == {id_of(item)}
    assert links_of(steps[2]) == {id_of(named(spans, "batch")[0])}


async def test_limits_and_bad_images_are_told_by_their_reasons(colours: Colours) -> None:
    assert (await refused(colours.images(*[ORANGE] * 5))).reason is Reason.TOO_MANY_ITEMS
    results = (await colours.images(ORANGE, b"no image", png(TEAL, side=31))).results
    assert rgb(results[0]) == ORANGE
    errors = [from_status(result.error) for result in results[1:]]
    assert [error.reason for error in errors] == [Reason.IMAGE_UNDECODABLE, Reason.IMAGE_TOO_MANY_PIXELS]


async def test_a_stream_answers_by_ref_and_takes_options_once(colours: Colours) -> None:
    pb2 = colours.pb2
    items = [
        pb2.ColourStreamItem(ref="a", image=common_pb2.Image(content=png(ORANGE))),
        pb2.ColourStreamItem(ref="b", image=common_pb2.Image(content=b"")),
    ]
    requests = [pb2.ColourStreamRequest(items=items), pb2.ColourStreamRequest(items=items[:1])]
    answers = [one async for group in colours.stub.ColourStream(iter(requests), timeout=60) for one in group.results]
    assert sorted((one.ref, one.result.WhichOneof("outcome")) for one in answers) == [
        ("a", "colour"),
        ("a", "colour"),
        ("b", "error"),
    ]
    requests[1].options.model = "mean"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        [one async for one in colours.stub.ColourStream(iter(requests), timeout=60)]
    assert from_rpc_error(caught.value).reason is Reason.OPTIONS_REPEATED


async def test_a_drain_answers_what_it_has_and_takes_no_more(colours: Colours) -> None:
    colours.free.clear()
    held = asyncio.ensure_future(colours.images(ORANGE))
    await until(lambda: bool(colours.batcher.running()))
    leaving = asyncio.ensure_future(colours.leave())
    await until(colours.server.runtime.draining.is_set)
    assert await colours.health() == health_pb2.HealthCheckResponse.NOT_SERVING
    assert (await refused(colours.images(TEAL))).reason is Reason.DRAINING
    colours.free.set()
    assert rgb((await held).results[0]) == ORANGE
    await leaving


def test_it_is_a_process_that_ends_on_sigterm(folder: Path) -> None:
    ready = folder / "ready.json"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LENSMESH_")} | {
        "PYTHONPATH": os.pathsep.join(map(str, (folder, ROOT, ROOT / "gen"))),
        "LENSMESH_COLOUR_LISTEN": "127.0.0.1:0",
        "LENSMESH_COLOUR_READY_FILE": str(ready),
        "LENSMESH_COLOUR_STATE_DIR": "",
    }
    log = folder / "log"
    with log.open("wb") as stderr:
        process = subprocess.Popen([sys.executable, "-m", "colour_svc"], env=environment, cwd=folder, stderr=stderr)
    try:
        waiting = threading.Event()
        while not ready.exists():
            assert process.poll() is None, log.read_text()
            waiting.wait(0.05)
        with grpc.insecure_channel(json.loads(ready.read_text())["addresses"][0]) as channel:
            request = health_pb2.HealthCheckRequest(service=SERVICE)
            watch = health_pb2_grpc.HealthStub(channel).Watch(request, timeout=60, wait_for_ready=True)
            assert any(one.status == health_pb2.HealthCheckResponse.SERVING for one in watch)
            watch.cancel()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()
