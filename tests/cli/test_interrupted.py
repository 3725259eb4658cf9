"""Ctrl-C while a command waits for somebody who never answers: the same words and the same code everywhere."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.meshes import PATIENCE_S, draw_images, environment
from tests.support.waiting import wait_until


def interrupted(arguments: list[str], waits: Callable[[], bool]) -> tuple[int, str]:
    """Starts a command, sends SIGINT once it waits; its exit code and standard error."""
    process = subprocess.Popen(
        [sys.executable, "-m", "lensmesh_cli", *arguments],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(lambda: waits() or process.poll() is not None, "it waits")
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
    return process.returncode, said


def test_metadata_from_a_pipe_that_nobody_writes(tmp_path: Path) -> None:
    pipe, images = tmp_path / "about", draw_images(tmp_path / "in", 1)[0].parent
    os.mkfifo(pipe)
    writers: list[int] = []

    def is_read() -> bool:
        with contextlib.suppress(OSError):
            writers.append(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
        return bool(writers)

    try:
        ended = interrupted(["ingest", str(images), "--metadata", str(pipe), "--target", "127.0.0.1:1"], is_read)
    finally:
        for writer in writers:
            os.close(writer)
    assert ended == (130, "error: interrupted\n")


@pytest.mark.parametrize("arguments", [("status", "--target"), ("top", "--once", "--metrics")])
def test_a_mesh_that_takes_the_connection_and_says_nothing(arguments: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        callers: list[socket.socket] = []

        def has_called() -> bool:
            with contextlib.suppress(BlockingIOError):
                callers.append(server.accept()[0])
            return bool(callers)

        try:
            ended = interrupted([*arguments, f"127.0.0.1:{server.getsockname()[1]}"], has_called)
        finally:
            for caller in callers:
                caller.close()
    assert ended == (130, "error: interrupted\n")
