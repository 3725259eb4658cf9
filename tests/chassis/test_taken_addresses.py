"""Two processes that want one address, and sockets that cannot be: each says what is wrong and how to put it right."""

import datetime
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lensmesh_chassis.channels import open_channel
from lensmesh_chassis.process.addresses import MAX_UNIX_PATH_BYTES, longest_unix_path
from lensmesh_local.sidecars.certificates import Authority
from tests.support.every_shape import call, finish
from tests.support.service_process import PATIENCE, process


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder whose sockets' paths are short enough wherever pytest keeps its own."""
    with tempfile.TemporaryDirectory(prefix="lensmesh-") as folder:
        yield Path(folder)


def folders(tmp_path: Path) -> tuple[Path, Path]:
    """One for each process."""
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    return one, other


async def answers(address: str) -> bool:
    async with open_channel(address) as channel:
        return await finish(call(channel, "UnaryUnary", timeout=PATIENCE)) == ["a"]


@pytest.mark.parametrize("setting", ["LISTEN", "HEALTH_LISTEN"])
async def test_a_second_process_on_one_port(tmp_path: Path, setting: str) -> None:
    one, other = folders(tmp_path)
    async with process(one) as first:
        address = (await first.addresses())["addresses"][0]
        async with process(other, **{setting: address}) as second:
            assert await second.ended() == 1
            said = await second.said()
        assert f"cannot listen on {address}: the port is in use" in said
        assert f"change {setting.lower()}" in said
        assert "NOT_READY" in said
        assert "Traceback" not in said
        assert not second.ready.exists()
        # The first one never noticed.
        assert await answers(address)


async def test_a_second_process_on_one_socket(tmp_path: Path, short: Path) -> None:
    one, other = folders(tmp_path)
    address = f"unix:{short}/s"
    async with process(one, LISTEN=address) as first:
        await first.addresses()
        async with process(other, LISTEN=address) as second:
            assert await second.ended() == 1
            said = await second.said()
        assert f"cannot listen on {address}: another server listens there" in said
        assert "Traceback" not in said
        assert await answers(address)


async def test_the_socket_of_a_process_that_was_killed_is_taken_over(tmp_path: Path, short: Path) -> None:
    one, other = folders(tmp_path)
    path = short / "s"
    async with process(one, LISTEN=f"unix:{path}") as first:
        await first.addresses()
        first.process.kill()
        await first.ended()
    assert path.exists()
    async with process(other, LISTEN=f"unix:{path}") as second:
        await second.addresses()
        assert await answers(f"unix:{path}")
        second.process.send_signal(signal.SIGTERM)
        assert await second.ended() == 0
    assert not path.exists()


async def test_a_path_that_is_too_long_for_a_socket(tmp_path: Path) -> None:
    path = tmp_path / ("x" * MAX_UNIX_PATH_BYTES)
    async with process(tmp_path, LISTEN=f"unix:{path}") as started:
        assert await started.ended() == 1
        said = await started.said()
    assert "LENSMESH_FAKE_LISTEN is wrong" in said
    assert f"has {len(os.fsencode(path))} bytes and the system takes {MAX_UNIX_PATH_BYTES}" in said
    assert "use a folder with a shorter name" in said
    assert "Traceback" not in said


async def test_the_longest_path_that_a_socket_can_have(tmp_path: Path, short: Path) -> None:
    """The limit is where it is said to be."""
    path = short / ("x" * (MAX_UNIX_PATH_BYTES - len(os.fsencode(short)) - 1))
    async with process(tmp_path, LISTEN=f"unix:{path}") as started:
        await started.addresses()
        assert await answers(f"unix:{path}")


def test_a_socket_of_macos_has_a_shorter_path() -> None:
    assert longest_unix_path(sys.platform) == MAX_UNIX_PATH_BYTES
    assert longest_unix_path("linux") == 107
    assert longest_unix_path("darwin") == 103


async def test_a_folder_that_does_not_exist_and_a_file_that_is_no_socket(tmp_path: Path, short: Path) -> None:
    file = short / "f"
    file.write_text("somebody's own")
    for path, told in ((short / "none" / "s", "the folder"), (file, "a file that is no socket lies there")):
        async with process(tmp_path, LISTEN=f"unix:{path}") as started:
            assert await started.ended() == 1
            assert told in await started.said()
    assert file.read_text() == "somebody's own"


async def test_a_certificate_that_has_expired_ends_the_start(tmp_path: Path) -> None:
    files = Authority().issue(tmp_path / "tls", "", life=-datetime.timedelta(hours=1))
    certificate, key = str(files.certificate), str(files.key)
    async with process(tmp_path, TLS_CERTIFICATE_FILE=certificate, TLS_KEY_FILE=key) as started:
        assert await started.ended() == 1
        said = await started.said()
    assert f"tls_certificate_file '{files.certificate}' expired on" in said
    assert "renew the certificate" in said
    assert "Traceback" not in said
