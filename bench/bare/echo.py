"""A gRPC server that answers what it was sent, and does nothing else: python -m bench.bare.echo asyncio|uvloop.

It is the least that a call costs in Python with grpc.aio, on the event loop that the measured service has.
"""

from __future__ import annotations

import importlib
import sys
import threading
from concurrent.futures import Future
from pathlib import Path

import grpc

from bench.worker import serve

SERVICE, METHOD = "lensmesh.bench.Echo", "Echo"
PATH = f"/{SERVICE}/{METHOD}"


def loop_of(pid: int) -> str:
    """Return the kind of event loop that a service's process has: "asyncio" or "uvloop"."""
    maps = Path(f"/proc/{pid}/maps")
    return "uvloop" if maps.exists() and "/uvloop/" in maps.read_text() else "asyncio"


async def _echo(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
    return request


async def _serve(started: Future[str]) -> None:
    server = grpc.aio.server()
    handler = grpc.method_handlers_generic_handler(SERVICE, {METHOD: grpc.unary_unary_rpc_method_handler(_echo)})
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    started.set_result(f"127.0.0.1:{port}")
    await server.wait_for_termination()


def _run(kind: str, started: Future[str]) -> None:
    try:
        importlib.import_module(kind).run(_serve(started))
    except BaseException as error:  # noqa: BLE001 - said by who waits for the address
        started.set_exception(error)


def main() -> None:
    """Serve calls until standard input ends."""
    started: Future[str] = Future()
    threading.Thread(target=_run, args=(sys.argv[1], started), daemon=True).start()
    address = started.result()
    serve({"address": lambda asked: address})


if __name__ == "__main__":
    main()
