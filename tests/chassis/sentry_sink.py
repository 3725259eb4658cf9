"""A Sentry server, as far as events go: keeps every envelope that is sent to it."""

import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


def _unpacked(body: bytes, encoding: str) -> bytes:
    """Return a body as it was before the SDK packed it: by brotli where that is installed."""
    if encoding == "br":
        import brotli

        unpacked: bytes = brotli.decompress(body)
        return unpacked
    return gzip.decompress(body) if encoding == "gzip" else body


class SentrySink:
    """Listens on a free port. `hold` keeps answers back until it is set."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        """Uncompressed, as they came."""
        self.hold = threading.Event()
        self.hold.set()
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                sink.bodies.append(_unpacked(body, self.headers.get("Content-Encoding", "")))
                sink.hold.wait()
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.dsn = f"http://dsnkey:dsnsecret@127.0.0.1:{self._server.server_port}/42"

    def events(self) -> list[dict[str, Any]]:
        """The events of all envelopes: a header, then items of a header and a body, a line each."""
        found = []
        for body in self.bodies:
            lines = body.splitlines()[1:]
            for header, content in zip(lines[::2], lines[1::2], strict=True):
                assert json.loads(header)["type"] == "event"
                found.append(json.loads(content))
        return found

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.hold.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
