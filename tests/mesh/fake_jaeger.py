"""As much of Jaeger's query API as somebody needs who looks up one trace."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self


class FakeJaeger:
    """Answers each question with the next of `traces`, the last one ever after: lists of service names, a span each."""

    def __init__(self, traces: list[list[str]]) -> None:
        self.asked: list[str] = []
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                fake.asked.append(self.path.removeprefix("/api/traces/"))
                names = traces[min(len(fake.asked), len(traces)) - 1]
                processes = {name: {"serviceName": name} for name in names}
                content = {"data": [{"processes": processes, "spans": [{"processID": name} for name in names]}]}
                self.send_response(200 if names else 404)
                self.end_headers()
                self.wfile.write(json.dumps(content if names else {"errors": [{"code": 404}]}).encode())

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
