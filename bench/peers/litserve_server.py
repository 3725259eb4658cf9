"""LitServe with batching: python -m bench.peers.litserve_server PORT MODEL MAX_BATCH WORKERS.

It follows LitServe's guide to speed: images come in base64, a batch of them is decoded in threads, and a device has
several workers, so that one decodes while another computes.
"""

from __future__ import annotations

import base64
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import litserve

from bench.peers.models import Model, open_model, prepare_all

# How long a batch waits to be filled: a small part of what it takes.
BATCH_TIMEOUT_S = 0.05
# Answers may take longer than the default of 30 s on a small machine that is asked for more than it does.
ANSWER_S = 600


class ClipApi(litserve.LitAPI):  # type: ignore[misc]
    """The four steps that LitServe asks for, and how a batch is joined and split."""

    def __init__(self, name: str, most: int) -> None:
        super().__init__(max_batch_size=most, batch_timeout=BATCH_TIMEOUT_S)
        self._name = name

    def setup(self, device: str) -> None:
        self._model: Model = open_model(self._name)
        self._pool = ThreadPoolExecutor(os.cpu_count())

    def decode_request(self, request: dict[str, str]) -> bytes:
        return base64.b64decode(request["image"])

    def batch(self, inputs: list[bytes]) -> list[Any]:
        return prepare_all(self._model, inputs, self._pool)

    def predict(self, prepared: list[Any]) -> Any:
        return self._model.encode(prepared)

    def unbatch(self, output: Any) -> list[Any]:
        return list(output)

    def encode_response(self, vector: Any) -> dict[str, Any]:
        return {"vector": vector.tolist()}


def main() -> None:
    """Serve until a signal."""
    port, name, most, workers = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    api = ClipApi(name, most)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=workers, timeout=ANSWER_S)
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    main()
