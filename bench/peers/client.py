"""A caller of a peer, in the peer's own environment: python -m bench.peers.client KIND FOLDER MODEL MAX_BATCH.

It starts the peer's server, waits until the server answers, and ends it at the end.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from bench.worker import Asked, serve
from lensmesh_cli.load import supply
from lensmesh_cli.load.figures import LoadFigures, summarize
from lensmesh_cli.load.loops import Call, LoadAnswer, closed_loop

READY_S = 600.0
CALL_S = 600.0
# Of the model, in order of preference. pytriton gives the second one a second to find the first one: a busy machine may
# need another try, or make do with one.
INSTANCES = (2, 2, 1)


@contextlib.asynccontextmanager
async def triton_call(port: int, images: Iterator[bytes]) -> AsyncIterator[Call]:
    """Make a call that sends one image by Triton's gRPC."""
    from tritonclient.grpc import InferInput
    from tritonclient.grpc.aio import InferenceServerClient

    client = InferenceServerClient(f"127.0.0.1:{port}")

    async def call() -> LoadAnswer:
        image = InferInput("image", [1, 1], "BYTES")
        image.set_data_from_numpy(np.array([[next(images)]], dtype=np.object_))
        answer = await client.infer("clip", [image], client_timeout=CALL_S)
        assert answer.as_numpy("vector").ndim == 2
        return LoadAnswer(1)

    try:
        yield call
    finally:
        await client.close()


@contextlib.asynccontextmanager
async def litserve_call(port: int, images: Iterator[bytes]) -> AsyncIterator[Call]:
    """Make a call that sends one image by LitServe's HTTP."""
    import aiohttp

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(CALL_S)) as session:

        async def call() -> LoadAnswer:
            body = {"image": base64.b64encode(next(images)).decode()}
            async with session.post(f"http://127.0.0.1:{port}/predict", json=body) as response:
                answer = await response.json()
            assert response.status == 200, answer
            assert len(answer["vector"]) > 1
            return LoadAnswer(1)

        yield call


CALLS = {"triton": triton_call, "litserve": litserve_call}


@contextlib.contextmanager
def server(kind: str, model: str, most: str, instances: int) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """Run the peer's server in its own process group, and yield its port and process."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    # As a child that ends when we do, however we end.
    command = [sys.executable, "-m", "lensmesh_local.child", f"bench.peers.{kind}_server"]
    command += [str(port), model, most, str(instances)]
    # What it says goes where our own errors go: standard output is for answers.
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=2, start_new_session=True)
    try:
        yield port, process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGCONT)
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


class Caller:
    """The handlers for one peer.

    The peer's processes are stopped while others are measured: LitServe's poll without work.
    """

    def __init__(self, kind: str, folder: Path, port: int, group: int) -> None:
        self._call, self._port, self._group = CALLS[kind], port, group
        self._contents = supply.read(sorted(folder.glob("*.jpg")))
        self._salt = itertools.count()

    def images(self, asked: Asked) -> dict[str, Any]:
        """Make calls of one image by `concurrency` callers. The server makes the batches."""

        async def run() -> LoadFigures:
            async with self._call(self._port, supply.images(self._contents, next(self._salt))) as call:
                clock = asyncio.get_running_loop().time
                begin = clock() + asked["warm"]
                end = begin + asked["seconds"]
                seconds = asked["warm"] + asked["seconds"]
                samples = await closed_loop(call, concurrency=asked["concurrency"], seconds=seconds)
                return summarize(samples, begin, end)

        os.killpg(self._group, signal.SIGCONT)
        try:
            return asdict(asyncio.run(run()))
        finally:
            self.rest()

    def rest(self) -> None:
        """Stop the peer's processes until the next measurement."""
        os.killpg(self._group, signal.SIGSTOP)

    async def answers(self, process: subprocess.Popen[bytes]) -> None:
        """Wait until the server answers one image. Raises what the last try raised."""
        deadline = time.monotonic() + READY_S
        while True:
            try:
                async with self._call(self._port, supply.images(self._contents, 0)) as call:
                    await call()
                return
            except Exception:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise
                await asyncio.sleep(1)


def main() -> None:
    """Start the server and serve."""
    kind, folder, model, most = sys.argv[1:5]
    for instances in INSTANCES:
        with server(kind, model, most, instances) as (port, process):
            caller = Caller(kind, Path(folder), port, process.pid)
            try:
                asyncio.run(caller.answers(process))
            except Exception:
                if instances == INSTANCES[-1]:
                    raise
                traceback.print_exc()
                continue
            caller.rest()
            serve({"images": caller.images})
            return


if __name__ == "__main__":
    main()
