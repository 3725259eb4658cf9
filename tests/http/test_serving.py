"""What stands around every request: bounds, origins, ids, drain, and a client that leaves."""

import asyncio
import json
from typing import Any

import pytest

from lensmesh.router.v1 import router_pb2
from lensmesh_chassis.errors import Unavailable
from lensmesh_chassis.reasons import Reason
from tests.http.conftest import Door
from tests.http.raw_requests import answer_of, connected, head
from tests.support.exposed import scrape
from tests.support.waiting import until

SEARCH = "/lensmesh.router.v1.RouterService/Search"
STATUS = "/lensmesh.router.v1.RouterService/GetStatus"
JSON = {"content-type": "application/json"}


async def count_of(door: Door, metric: str) -> float:
    """Return a metric without labels."""
    shown = await asyncio.to_thread(scrape, door.server.metrics_address)
    return next(float(line.split()[1]) for line in shown.splitlines() if line.startswith(f"{metric} "))


@pytest.mark.parametrize("more", [(), ("expect: 100-continue",)])
async def test_a_body_that_is_too_large_is_refused_before_it_is_read(door: Door, more: tuple[str, ...]) -> None:
    async with connected(door) as (reader, writer):
        writer.write(head(SEARCH, "content-type: application/json", f"content-length: {2 << 30}", *more))
        if not more:
            writer.write(b"x" * 1_000_000)
        status, shown = await answer_of(reader)
    assert status in (413, 429)
    assert "body_bytes" in json.dumps(shown)
    assert door.router.entered == 0


async def test_a_head_that_does_not_end_loses_its_connection(stopped_door: Door) -> None:
    door = await stopped_door.start(header_seconds=0.2)
    async with connected(door) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nhost: localhost\r\n")
        assert await reader.read() == b""
    async with connected(door) as (reader, writer):
        # Nor does one that never begins.
        assert await reader.read() == b""


async def test_a_body_that_stops_is_ended(stopped_door: Door) -> None:
    door = await stopped_door.start(body_seconds=0.2)
    async with connected(door) as (reader, writer):
        writer.write(head(SEARCH, "content-type: application/json", "content-length: 100") + b"{")
        status, shown = await answer_of(reader)
    assert (status, shown["code"]) == (504, "deadline_exceeded")


async def test_a_body_that_comes_too_slowly_is_ended(stopped_door: Door) -> None:
    door = await stopped_door.start(body_seconds=0.2, body_rate=1_000_000)
    async with connected(door) as (reader, writer):
        writer.write(head(SEARCH, "content-type: application/json", "content-length: 10000"))
        answer = asyncio.create_task(answer_of(reader))
        while not answer.done():
            writer.write(b" ")
            await asyncio.sleep(0.01)
        status, shown = await answer
    assert (status, shown["code"]) == (504, "deadline_exceeded")
    assert "body_rate" in shown["message"]


async def test_idle_connections_make_room(stopped_door: Door) -> None:
    door = await stopped_door.start(max_connections=8, metrics_listen="127.0.0.1:0")
    idle = [await asyncio.open_connection(*door.host_and_port) for _ in range(40)]
    try:
        answer = await door.client.post(STATUS, content=b"{}", headers=JSON)
        assert answer.status_code == 200
        assert await count_of(door, "lensmesh_http_connections") <= 8
    finally:
        for _, writer in idle:
            writer.close()


async def test_a_client_that_leaves_ends_its_call(door: Door) -> None:
    door.router.hold = asyncio.Event()
    async with connected(door) as (_, writer):
        body = b"{}"
        writer.write(head(SEARCH, "content-type: application/json", "content-length: 2") + body)
        await until(lambda: door.router.entered, "the call at the router")
    await until(lambda: door.router.cancelled, "the end of the call")


async def test_a_client_that_leaves_while_it_sends_starts_nothing(door: Door) -> None:
    async with connected(door) as (_, writer):
        writer.write(head(SEARCH, "content-type: application/json", "content-length: 100") + b"{")
        await writer.drain()
    await until(lambda: door.server.runtime.health.is_serving(), "a door that still serves")
    answer = await door.client.post(STATUS, content=b"{}", headers=JSON)
    assert answer.status_code == 200
    assert "Search" not in door.router.requests


async def test_a_router_that_is_away_is_told_and_found_again(door: Door) -> None:
    port = int(door.router.address.rpartition(":")[2])
    await door.router.stop()
    answer = await door.client.post(SEARCH, content=b"{}", headers=JSON | {"connect-timeout-ms": "20000"})
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert int(answer.headers["retry-after"]) >= 1
    assert (await door.client.get("/healthz")).status_code == 503
    # Its own work is possible: nobody is helped by another door.
    assert (await door.client.get("/readyz")).status_code == 200
    await door.router.start(port)

    async def found() -> bool:
        return (await door.client.post(SEARCH, content=b"{}", headers=JSON)).status_code == 200

    await until(found, "the router, again")


async def test_a_router_that_drains_is_told_with_its_delay(door: Door) -> None:
    door.router.answers["GetStatus"] = Unavailable(Reason.DRAINING, "going", retry_after_s=3)
    answer = await door.client.get("/healthz")
    assert answer.status_code == 503


async def test_a_drain_ends_what_runs_and_refuses_the_rest(stopped_door: Door) -> None:
    door = await stopped_door.start(health_listen="127.0.0.1:0")
    hold = door.router.hold = asyncio.Event()
    runs = asyncio.create_task(door.client.post(SEARCH, content=b"{}", headers=JSON))
    await until(lambda: door.router.entered, "the call at the router")
    door.server.runtime.draining.set()
    door.server.runtime.health.drain()
    refused = await door.client.post(STATUS, content=b"{}", headers=JSON)
    assert (refused.status_code, refused.headers["connection"]) == (503, "close")
    assert "another replica" in refused.text
    assert (await door.client.get("/readyz")).status_code == 503
    assert (await door.client.get("/livez")).status_code == 200
    hold.set()
    assert (await runs).status_code == 200


async def test_more_requests_than_max_calls_are_refused(stopped_door: Door) -> None:
    door = await stopped_door.start(max_calls=1)
    hold = door.router.hold = asyncio.Event()
    runs = asyncio.create_task(door.client.post(SEARCH, content=b"{}", headers=JSON))
    await until(lambda: door.router.entered, "the call at the router")
    refused = await door.client.post(STATUS, content=b"{}", headers=JSON)
    assert (refused.status_code, refused.json()["error"]["reason"]) == (429, "OVERLOADED")
    assert (await door.client.get("/livez")).status_code == 200
    hold.set()
    assert (await runs).status_code == 200


async def test_pages_of_other_origins_may_not_call(door: Door) -> None:
    for headers in (
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
        {"host": "evil.example"},
    ):
        answer = await door.client.post(STATUS, content=b"{}", headers=JSON | headers)
        assert (answer.status_code, answer.json()["error"]["reason"]) == (403, "CALLER_NOT_ALLOWED"), headers
    assert door.router.entered == 0
    own = f"http://{door.server.address}"
    answer = await door.client.post(
        STATUS, content=b"{}", headers=JSON | {"origin": own, "sec-fetch-site": "same-origin"}
    )
    assert answer.status_code == 200


async def test_origins_that_are_named_may_call(stopped_door: Door) -> None:
    door = await stopped_door.start(origins="https://app.example.org", hosts="search.example.org, *.inner.example")
    asked = {"origin": "https://app.example.org", "access-control-request-method": "POST"}
    asked["access-control-request-headers"] = "content-type,connect-protocol-version"
    preflight = await door.client.request("OPTIONS", SEARCH, headers=asked)
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == "https://app.example.org"
    assert preflight.headers["access-control-allow-headers"] == "content-type,connect-protocol-version"
    answer = await door.client.post(STATUS, content=b"{}", headers=JSON | {"origin": "https://app.example.org"})
    assert answer.headers["access-control-allow-origin"] == "https://app.example.org"
    assert "x-request-id" in answer.headers["access-control-expose-headers"]
    for host, status in (("search.example.org", 200), ("a.inner.example:80", 200), ("inner.example", 403)):
        answer = await door.client.post(STATUS, content=b"{}", headers=JSON | {"host": host})
        assert answer.status_code == status, host
    refused = await door.client.request("OPTIONS", SEARCH, headers=asked | {"origin": "https://other.example"})
    assert refused.status_code == 403


async def test_a_request_id_goes_through_the_mesh(door: Door) -> None:
    answer = await door.client.post(STATUS, content=b"{}", headers=JSON | {"x-request-id": "mine-1"})
    assert answer.headers["x-request-id"] == "mine-1"
    assert door.router.metadata[-1]["x-request-id"] == "mine-1"
    answer = await door.client.post(STATUS, content=b"{}", headers=JSON | {"x-request-id": "not acceptable"})
    assert len(answer.headers["x-request-id"]) == 32
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_metrics_name_routes_and_no_paths(stopped_door: Door) -> None:
    door = await stopped_door.start(metrics_listen="127.0.0.1:0")
    await door.client.post(SEARCH, content=b"{}", headers=JSON)
    await door.client.get("/a/strangers/path")
    await door.client.request("BREW", "/livez")
    shown = await asyncio.to_thread(scrape, door.server.metrics_address)
    assert f'lensmesh_http_requests_total{{method="POST",route="{SEARCH}",status="200"}} 1.0' in shown
    assert 'lensmesh_http_requests_total{method="GET",route="other",status="404"} 1.0' in shown
    assert "strangers" not in shown
    assert "BREW" not in shown


@pytest.mark.parametrize("encoding", ["br", "gzip"])
async def test_large_answers_are_compressed(door: Door, encoding: str) -> None:
    status = router_pb2.GetStatusResponse(default_collection="x" * 5000)
    door.router.answers["GetStatus"] = status
    answer = await door.client.post(STATUS, content=b"{}", headers=JSON | {"accept-encoding": encoding})
    assert answer.headers["content-encoding"] == encoding
    assert answer.json()["defaultCollection"] == "x" * 5000


async def test_a_client_that_reads_nothing_holds_nothing(stopped_door: Door) -> None:
    door = await stopped_door.start(body_seconds=0.3, metrics_listen="127.0.0.1:0")
    door.router.answers["GetStatus"] = router_pb2.GetStatusResponse(default_collection="x" * 20_000_000)
    async with connected(door) as (reader, writer):
        writer.write(head(STATUS, "content-type: application/json", "content-length: 2") + b"{}")
        await until(lambda: door.router.entered, "the call at the router")

        async def ended() -> bool:
            return await count_of(door, "lensmesh_http_in_flight") == 0

        await until(ended, "the end of the request")
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await reader.readexactly(20_000_000)


async def test_metrics_are_shown_where_other_systems_show_them(door: Door) -> None:
    await door.client.get("/livez")
    await door.client.post(STATUS, content=b"{}", headers=JSON)
    shown = (await door.client.get("/metrics")).text
    assert f'lensmesh_http_requests_total{{method="POST",route="{STATUS}",status="200"}} 1.0' in shown


async def test_one_client_has_a_rate_and_others_are_not_counted_with_it(stopped_door: Door) -> None:
    door = await stopped_door.start(client_rate=0.01, client_burst=2, trusted_proxies="127.0.0.1")

    async def ask(client: str) -> Any:
        return await door.client.post(STATUS, content=b"{}", headers=JSON | {"x-forwarded-for": client})

    assert [(await ask("203.0.113.7")).status_code for _ in range(3)] == [200, 200, 429]
    refused = await ask("203.0.113.7")
    assert int(refused.headers["retry-after"]) > 50
    assert "client_rate" in refused.json()["error"]["message"]
    assert (await ask("203.0.113.8")).status_code == 200
    assert (await door.client.get("/livez")).status_code == 200


async def test_an_address_that_a_stranger_writes_is_not_believed(stopped_door: Door) -> None:
    door = await stopped_door.start(client_rate=0.01, client_burst=1)
    headers = [JSON | {"x-forwarded-for": f"203.0.113.{number}"} for number in range(2)]
    asked = [await door.client.post(STATUS, content=b"{}", headers=each) for each in headers]
    assert [answer.status_code for answer in asked] == [200, 429]
