"""The metrics endpoint when things go wrong or change: its port is taken, the service starts, the service drains."""

import asyncio
import signal
import socket
from pathlib import Path

import pytest

from lensmesh_chassis.channels import open_channel
from tests.support.every_shape import ENCODER, SHAPES, call, finish
from tests.support.exposed import scrape
from tests.support.service_process import entered, process, until_serving
from tests.support.waiting import until


def serving(text: str) -> dict[str, str]:
    """The health gauge by service."""
    lines = [line for line in text.splitlines() if line.startswith("lensmesh_health_serving{")]
    return {line.split('"')[1]: line.split()[-1] for line in lines}


async def test_a_taken_port_ends_the_start_with_one_line_that_names_it(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        async with process(tmp_path, METRICS_LISTEN=address, LOG_FORMAT="json") as one:
            assert await one.ended() == 1
            said = await one.said()
    assert f"cannot serve metrics on {address}: the port is in use" in said
    assert "change metrics_listen" in said
    assert "Traceback" not in said
    assert not one.ready.exists()


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("203.0.113.1:9464", "this machine has no such address"),
        ("no-such-host.invalid:9464", "the host name is unknown"),
    ],
)
async def test_an_address_that_cannot_be_is_named(tmp_path: Path, address: str, why: str) -> None:
    async with process(tmp_path, METRICS_LISTEN=address) as one:
        assert await one.ended() == 1
        said = await one.said()
    assert f"cannot serve metrics on {address}: {why}" in said
    assert "Traceback" not in said


async def test_while_it_starts_a_service_shows_that_it_does_not_serve(tmp_path: Path) -> None:
    async with process(tmp_path, "hangs", METRICS_LISTEN="127.0.0.1:0") as one:
        found = await one.addresses()
        async with open_channel(found["addresses"][0], services=()) as channel:
            with pytest.raises(Exception, match="not ready"):
                await finish(call(channel, "UnaryUnary"))

            async def refused() -> bool:
                text = await asyncio.to_thread(scrape, found["metrics"])
                assert serving(text) == {ENCODER: "0.0", SHAPES: "0.0"}
                return 'grpc_code="UNAVAILABLE",grpc_method="UnaryUnary"' in text

            await until(refused)


async def test_while_it_drains_a_service_shows_what_is_left(tmp_path: Path) -> None:
    go_on = tmp_path / "go-on"
    async with process(tmp_path, "holds", str(go_on), METRICS_LISTEN="127.0.0.1:0", DRAIN_SECONDS="60") as one:
        found = await one.addresses()
        async with open_channel(found["addresses"][0]) as channel:
            await until_serving(channel)
            assert serving(await asyncio.to_thread(scrape, found["metrics"])) == {ENCODER: "1.0", SHAPES: "1.0"}
            held = [asyncio.create_task(finish(call(channel, "UnaryUnary"))) for _ in range(3)]
            await until(lambda: entered(found["metrics"], 3))
            one.process.send_signal(signal.SIGTERM)

            async def drains() -> bool:
                return set(serving(await asyncio.to_thread(scrape, found["metrics"])).values()) == {"0.0"}

            await until(drains)
            assert await entered(found["metrics"], 3)
            go_on.touch()
            await asyncio.gather(*held)
        assert await one.ended() == 0
