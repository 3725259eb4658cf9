"""Listening addresses of real servers: several, unix sockets, taken ones, the ready file."""

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from lensmesh_chassis.channels import open_channel
from lensmesh_chassis.errors import PreconditionFailed, Unavailable
from lensmesh_chassis.process.server import Runtime, running
from tests.chassis.conftest import Serve
from tests.support.every_shape import FakeApp, call, finish, settings


async def test_tcp_and_unix_at_once(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with serve(listen=f"127.0.0.1:0,unix:{path}") as served:
        assert len(served.server.addresses) == 2
        for address in served.server.addresses:
            async with open_channel(address) as channel:
                assert await finish(call(channel, "UnaryUnary")) == ["a"]
    assert not path.exists()


async def test_a_stale_socket_file_is_replaced(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with serve(listen=f"unix:{path}") as served:
        assert await finish(call(served.channel, "UnaryUnary")) == ["a"]


async def test_a_socket_in_use_is_refused_and_goes_on_working(serve: Serve, tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/s"
    async with serve(listen=address) as served:
        with pytest.raises(Unavailable, match="another server listens there"):
            async with running(settings(listen=address), FakeApp, "fake"):
                raise AssertionError("it must not start")
        async with open_channel(address) as fresh:
            assert await finish(call(fresh, "UnaryUnary")) == ["a"]
        assert await finish(call(served.channel, "UnaryUnary")) == ["a"]


async def test_a_second_server_on_one_port_is_refused(serve: Serve) -> None:
    """gRPC's own default shares the port in silence."""
    async with serve() as served:
        apps: list[FakeApp] = []

        def build(runtime: Runtime[Any]) -> FakeApp:
            apps.append(FakeApp(runtime))
            return apps[0]

        with pytest.raises(Unavailable, match=f"{served.server.address}: the port is in use.*listen"):
            async with running(settings(listen=served.server.address), build, "fake"):
                raise AssertionError("it must not start")
        assert apps[0].log == ["stop"]
        assert await finish(call(served.channel, "UnaryUnary")) == ["a"]


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_one_taken_address_of_two_leaves_nothing_behind(serve: Serve, tmp_path: Path) -> None:
    async with serve() as served:
        with pytest.raises(Unavailable):
            async with running(settings(listen=f"unix:{tmp_path}/s,{served.server.address}"), FakeApp, "fake"):
                raise AssertionError("it must not start")
    assert names_in(tmp_path) == []


async def test_the_ready_file_tells_what_was_bound(serve: Serve, tmp_path: Path) -> None:
    ready = tmp_path / "ready.json"
    ready.write_text("of an earlier run")
    async with serve(ready_file=str(ready), health_listen="127.0.0.1:0", metrics_listen="127.0.0.1:0") as served:
        assert json.loads(ready.read_text()) == {
            "addresses": list(served.server.addresses),
            "health": served.server.health_address,
            "metrics": served.server.metrics_address,
            "pid": os.getpid(),
        }
        assert ":0" not in "".join(served.server.addresses)
    assert names_in(tmp_path) == []


async def test_a_ready_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(PreconditionFailed, match="ready_file"):
        async with running(settings(ready_file=str(tmp_path / "no" / "r")), FakeApp, "fake"):
            raise AssertionError("it must not start")
