"""What passes each program at the edge: calls, streams, large bodies, pages, and the end of what lies behind."""

import asyncio
import base64
import secrets
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import httpx2
import pytest
import yaml
from websockets.asyncio.client import connect
from websockets.typing import Origin

from http_svc.app import HttpApp
from http_svc.serving.listeners import HttpListeners
from http_svc.settings import HttpSettings
from lensmesh.router.v1 import router_pb2, router_pb2_grpc
from lensmesh_chassis.channels import open_channel
from lensmesh_chassis.contract import HTTP_PORT, PORTS
from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.process.server import Runtime, running
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.settings import ServiceSettings
from tests.edge.proxies import ORIGIN, Proxy, envoy, nginx
from tests.sidecars.envoys import LOCAL
from tests.sidecars.fakes import Router
from tests.support.tools import ROOT
from tests.support.waiting import until

LARGE = 8 * 1024 * 1024
PROXIES = {"envoy": envoy, "nginx": nginx}
SERVICE = "/lensmesh.router.v1.RouterService"


class Behind:
    """A router and a front door, and the proxy before both."""

    def __init__(self) -> None:
        self.stack = AsyncExitStack()
        self.fake = Router()
        self.proxy: Proxy

    async def start(self, name: str, folder: Path) -> None:
        def build(_: Runtime[ServiceSettings]) -> Router:
            return self.fake

        settings = ServiceSettings(listen=f"{LOCAL}:0", drain_seconds=30)
        router = await self.stack.enter_async_context(running(settings, build, "fake"))
        chosen = HttpSettings(listen=f"{LOCAL}:0", router_target=router.address, origins="")
        door = await self.stack.enter_async_context(running(chosen, HttpApp, "http", listeners=HttpListeners))
        self._proxied = AsyncExitStack()
        started = PROXIES[name](folder, router.address, door.address)
        self.proxy = await self._proxied.enter_async_context(started)

    def stub(self, stack: AsyncExitStack) -> Any:
        """A caller from outside. What it sends is not repeated by itself."""
        channel = open_channel(self.proxy.address, security=self.proxy.security, services=[], instrument=False)
        stack.push_async_callback(channel.close)
        return router_pb2_grpc.RouterServiceStub(channel)

    def browser(self, **more: Any) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(base_url=f"https://{self.proxy.address}", verify=self.proxy.context, **more)

    async def stop(self) -> None:
        await self.stack.aclose()
        await self._proxied.aclose()


@pytest.fixture(params=PROXIES)
async def behind(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Behind]:
    one = Behind()
    try:
        await one.start(request.param, tmp_path)
        yield one
    finally:
        await one.stop()


async def test_everything_passes_and_what_is_under_way_survives_a_drain(behind: Behind) -> None:
    async with AsyncExitStack() as stack:
        stub, browser = behind.stub(stack), await stack.enter_async_context(behind.browser(timeout=60))
        # A call, its error with its details, and a large one.
        await stub.GetStatus(router_pb2.GetStatusRequest(), timeout=60)
        behind.fake.fault = InvalidInput(Reason.OPTION_INVALID, "no such option", field="x")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetStatus(router_pb2.GetStatusRequest(), timeout=60)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert caught.value.details() == "no such option"
        assert any(key == "grpc-status-details-bin" for key, _ in caught.value.trailing_metadata() or ())
        behind.fake.fault = None
        item = router_pb2.IngestItem()
        item.image.content = secrets.token_bytes(LARGE)
        await stub.Ingest(router_pb2.IngestRequest(item=item), timeout=60)
        # The same by HTTP, through the front door: small, large, and what only the door answers.
        small = await browser.post(f"{SERVICE}/GetStatus", json={})
        assert (small.status_code, small.json()) == (200, {})
        body = {"item": {"image": {"content": base64.b64encode(item.image.content).decode()}}}
        assert (await browser.post(f"{SERVICE}/Ingest", json=body)).status_code == 200
        assert (await browser.get("/readyz")).json() == {"status": "ok"}
        assert (await browser.get("/nothing-here")).status_code == 404
        # A page of the edge's own origin may call, and one of another may not.
        for origin, status in ((f"https://{behind.proxy.address}", 200), ("https://elsewhere.example.org", 403)):
            asked = await browser.post(f"{SERVICE}/GetStatus", json={}, headers={"origin": origin})
            assert asked.status_code == status
        # What a page watches.
        async with connect(
            f"wss://{behind.proxy.address}/ws/index-progress",
            ssl=behind.proxy.context,
            origin=Origin(f"https://{behind.proxy.address}"),
            proxy=None,
        ) as socket:
            await (await socket.ping())
        # A stream outlives the drain of what lies behind, and no new call gets there.
        stream = stub.IngestStream(timeout=120)

        async def passes() -> None:
            await stream.write(router_pb2.IngestStreamRequest())
            assert isinstance(await stream.read(), router_pb2.IngestStreamResponse)

        await passes()
        draining = asyncio.create_task(behind.stack.aclose())

        async def refused() -> bool:
            try:
                await stub.GetStatus(router_pb2.GetStatusRequest(), timeout=60)
            except grpc.aio.AioRpcError as error:
                return error.code() is grpc.StatusCode.UNAVAILABLE
            return False

        await until(refused, "no new call is taken")
        assert not draining.done()
        await passes()
        await stream.done_writing()
        assert await stream.read() == grpc.aio.EOF
        assert await stream.code() is grpc.StatusCode.OK
        await draining


@pytest.mark.parametrize("behind", ["envoy"], indirect=True)
async def test_a_page_calls_by_grpc_web(behind: Behind) -> None:
    """As a browser does: it asks first, and then sends the call. A page of another origin is not told that it may."""
    asks = {"access-control-request-method": "POST", "access-control-request-headers": "content-type,x-grpc-web"}
    call = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1"}
    frame = struct.pack(">BI", 0, 0)
    async with behind.browser(timeout=60) as browser:
        allowed = await browser.options(f"{SERVICE}/GetStatus", headers={**asks, "origin": ORIGIN})
        assert allowed.headers["access-control-allow-origin"] == ORIGIN
        assert "x-grpc-web" in allowed.headers["access-control-allow-headers"]
        answer = await browser.post(f"{SERVICE}/GetStatus", content=frame, headers={**call, "origin": ORIGIN})
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert "grpc-status-details-bin" in answer.headers["access-control-expose-headers"]
        assert answer.headers["content-type"] == "application/grpc-web+proto"
        # A frame with the (empty) message, and one with the trailers.
        assert answer.content[:5] == frame
        assert b"grpc-status:0" in answer.content
        elsewhere = await browser.options(
            f"{SERVICE}/GetStatus", headers={**asks, "origin": "https://else.example.org"}
        )
        assert "access-control-allow-origin" not in elsewhere.headers
    assert behind.fake.calls == 1


@pytest.mark.parametrize("behind", ["nginx"], indirect=True)
async def test_nginx_leaves_grpc_web_to_the_door_which_refuses_it(behind: Behind) -> None:
    async with behind.browser(timeout=60) as browser:
        headers = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1"}
        answer = await browser.post(f"{SERVICE}/GetStatus", content=struct.pack(">BI", 0, 0), headers=headers)
    assert 400 <= answer.status_code < 500
    assert "application/json" in answer.headers["content-type"]
    assert behind.fake.calls == 0


def test_traefik_is_led_to_the_same_ports() -> None:
    """Its configuration is read here, and not run: docs/edge.md tells why."""
    folder = ROOT / "deploy" / "edge"
    static = yaml.safe_load((folder / "traefik.yaml").read_text())
    dynamic = yaml.safe_load((folder / "traefik-dynamic.yaml").read_text())["http"]
    assert static["providers"]["file"]["filename"].endswith("/traefik-dynamic.yaml")
    urls = {name: one["loadBalancer"]["servers"][0]["url"] for name, one in dynamic["services"].items()}
    assert urls == {"router": f"h2c://router:{PORTS['router']}", "door": f"http://http:{HTTP_PORT}"}
    for router in dynamic["routers"].values():
        assert set(router["entryPoints"]) <= set(static["entryPoints"])
        assert router["service"] in urls
        assert set(router.get("middlewares", ())) <= set(dynamic["middlewares"])
