"""A collector of traces that throws away what it gets: python -m bench.bare.sink."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import grpc

from bench.worker import Asked, serve


class Sink(grpc.GenericRpcHandler):
    """A handler of every method. It counts the calls."""

    def __init__(self) -> None:
        self.calls = 0

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        """Answer with an empty message, whatever it is."""
        return grpc.unary_unary_rpc_method_handler(self._take)

    def _take(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        self.calls += 1
        return b""


def main() -> None:
    """Serve until standard input ends."""
    sink = Sink()
    server = grpc.server(ThreadPoolExecutor(1), handlers=[sink])
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()

    def calls(asked: Asked) -> int:
        return sink.calls

    serve({"address": lambda asked: address, "calls": calls})
    server.stop(None)


if __name__ == "__main__":
    main()
