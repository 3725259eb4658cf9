"""Triton by pytriton with its dynamic batcher: python -m bench.peers.triton_server PORT MODEL MAX_BATCH INSTANCES.

A batch's images are decoded in the callable, as pytriton's examples do it. Its documentation advises several instances
of the callable for throughput: one decodes while another computes.
"""

from __future__ import annotations

import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from bench.peers.models import open_model


def main() -> None:
    """Serve until a signal."""
    port, name, most, instances = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    model = open_model(name)

    @batch  # type: ignore[untyped-decorator]
    def encode(image: Any) -> dict[str, Any]:
        return {"vector": model.encode([model.prepare(bytes(row[0])) for row in image])}

    with tempfile.TemporaryDirectory(prefix="lensmesh-bench-triton-") as folder:
        config = TritonConfig(
            grpc_port=port,
            http_port=_free_port(),
            metrics_port=_free_port(),
            grpc_address="127.0.0.1",
            http_address="127.0.0.1",
            allow_gpu_metrics=False,
        )
        with Triton(config=config, workspace=Path(folder) / "workspace") as triton:
            triton.bind(
                model_name="clip",
                infer_func=[encode] * instances,
                inputs=[Tensor(name="image", dtype=bytes, shape=(1,))],
                outputs=[Tensor(name="vector", dtype=np.float32, shape=(-1,))],
                config=ModelConfig(max_batch_size=most, batcher=DynamicBatcher(max_queue_delay_microseconds=10_000)),
            )
            triton.serve()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


if __name__ == "__main__":
    main()
