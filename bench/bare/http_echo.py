"""A server of Starlette that answers the JSON that it was sent, and does nothing else: python -m bench.bare.http_echo.

It runs on uvicorn with httptools and uvloop, as the front door does, in a process of its own.
"""

from __future__ import annotations

import socket
import threading

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bench.worker import serve

PATH = "/echo"


async def _echo(request: Request) -> Response:
    return JSONResponse(await request.json())


def serve_http(app: Starlette) -> str:
    """Serve an application in a thread of its own, until the process ends. Return its address."""
    bound = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off", timeout_keep_alive=3600)
    server = uvicorn.Server(config)
    threading.Thread(target=server.run, args=([bound],), daemon=True).start()
    host, port = bound.getsockname()
    return f"{host}:{port}"


def main() -> None:
    """Serve requests until standard input ends."""
    address = serve_http(Starlette(routes=[Route(PATH, _echo, methods=["POST"])]))
    serve({"address": lambda asked: address})


if __name__ == "__main__":
    main()
