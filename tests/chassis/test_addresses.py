"""Listening addresses: read, and explained where they cannot be used."""

import socket
from pathlib import Path

import pytest

from lensmesh_chassis.errors import Unavailable
from lensmesh_chassis.process.addresses import (
    ListenAddress,
    clear_stale_socket,
    explain_bind_failure,
    parse_address,
    parse_addresses,
)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:0", ListenAddress(host="127.0.0.1")),
        (" 0.0.0.0:50051 ", ListenAddress(host="0.0.0.0", port=50051)),
        ("[::1]:50051", ListenAddress(host="::1", port=50051)),
        ("unix:/run/a.sock", ListenAddress(path="/run/a.sock")),
        ("unix:///run/a.sock", ListenAddress(path="/run/a.sock")),
        ("unix:a.sock", ListenAddress(path="a.sock")),
    ],
)
def test_addresses_are_read(text: str, address: ListenAddress) -> None:
    assert parse_address(text) == address
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    "text", ["", "host", "host:", ":50051", "host:-1", "host:65536", "host:http", "::1:5", "unix:"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"no address|no path|in brackets"):
        parse_addresses(text)


def test_several_addresses() -> None:
    assert [str(one) for one in parse_addresses("127.0.0.1:1,unix:/a")] == ["127.0.0.1:1", "unix:/a"]


def test_a_stale_socket_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
    assert path.exists()
    clear_stale_socket(ListenAddress(path=str(path)))
    assert not path.exists()


def test_a_socket_in_use_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        with pytest.raises(Unavailable, match="another server listens there"):
            clear_stale_socket(ListenAddress(path=str(path)))
    assert path.exists()


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("mine")
    with pytest.raises(Unavailable, match="no socket"):
        clear_stale_socket(ListenAddress(path=str(path)))
    assert path.read_text() == "mine"


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="does not exist: create it"):
        clear_stale_socket(ListenAddress(path=str(tmp_path / "no" / "s")))


def test_a_port_in_use_is_explained() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = ListenAddress(host="127.0.0.1", port=taken.getsockname()[1])
        message = explain_bind_failure(address, "listen").message
    assert str(address) in message
    assert "in use" in message
    assert "listen" in message


@pytest.mark.parametrize(("host", "told"), [("192.0.2.1", "no such address"), ("no-such-host.invalid", "unknown")])
def test_a_host_that_is_not_here_is_explained(host: str, told: str) -> None:
    assert told in explain_bind_failure(ListenAddress(host=host, port=50051), "listen").message
