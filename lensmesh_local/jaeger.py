"""Jaeger, which keeps and shows traces: `python -m lensmesh_local.jaeger BINARY CONFIGURATION READY_FILE` becomes it.

Ports are in LENSMESH_JAEGER_PORTS: the query API's (its web page too) and OTLP's over gRPC, 0 for a free one. Run by
lensmesh_local.child; ends with its parent, as Envoy does. Traces are kept in memory, the newest of them.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lensmesh_local.process import Spec
from lensmesh_local.sidecars.process import end_with_parent

LOCAL = "127.0.0.1"
QUERY_PORT, OTLP_PORT = 16686, 4317
PORTS_VARIABLE = "LENSMESH_JAEGER_PORTS"
MOST_TRACES = 50_000
ANSWER_S = 5.0
HOW_TO_GET_ONE = (
    "no Jaeger was found: in a checkout `make tools` builds one (it needs Go); elsewhere take the program `jaeger` of "
    "release 2 from jaegertracing.io, and put it on the path or name it with --jaeger-binary"
)


def find_jaeger(named: Path | None) -> Path | None:
    """Find the program: of the name or path `named`, else in PATH, else as `make tools` built it.

    None where it is missing.
    """
    if named is not None:
        return named if os.access(named, os.X_OK) else None
    built = Path(__file__).resolve().parents[1] / ".tools" / "bin" / "jaeger"
    found = shutil.which("jaeger") or (str(built) if os.access(built, os.X_OK) else None)
    return Path(found) if found else None


def spec(binary: Path, folder: Path, logs: Path, *, free_ports: bool) -> Spec:
    """Return how to keep Jaeger running. Its ready file holds `pid`, `ui` and `otlp`, both with http://."""
    ready = folder / "jaeger.json"
    ports = "0,0" if free_ports else f"{QUERY_PORT},{OTLP_PORT}"
    return Spec(
        name="jaeger",
        module="lensmesh_local.jaeger",
        arguments=(str(binary), str(folder / "jaeger-configuration.json"), str(ready)),
        environment={PORTS_VARIABLE: ports},
        ready_file=ready,
        log_file=logs / "jaeger.log",
        serving=serves,
        # Services go on sending to where it was.
        pin=lambda told: {PORTS_VARIABLE: ",".join(str(told[key]).rpartition(":")[2] for key in ("ui", "otlp"))},
        # Somebody may take a free port between its choice and its use.
        attempts=3 if free_ports else 1,
        start_s=60.0,
        drain_s=10.0,
    )


def environment(told: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables that make services send Jaeger everything soon. The caller's own variables win."""
    wanted = {"LENSMESH_TRACES_BULK_RATIO": "1", "OTEL_BSP_SCHEDULE_DELAY": "500"}
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": str(told["otlp"]),
        **{name: os.environ.get(name, value) for name, value in wanted.items()},
    }


async def serves(told: Mapping[str, Any]) -> bool:
    """Tell whether both of its ends answer: the page and OTLP."""
    return await asyncio.to_thread(_answers, str(told["ui"]), str(told["otlp"]))


def _answers(ui: str, otlp: str) -> bool:
    try:
        socket.create_connection((LOCAL, int(otlp.rpartition(":")[2])), ANSWER_S).close()
        with urllib.request.urlopen(f"{ui}/api/services", timeout=ANSWER_S) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def configuration(query_port: int, otlp_port: int) -> dict[str, Any]:
    """Return a configuration of Jaeger 2 with one receiver, one store in memory, and nothing on any other port."""
    stages = {"receivers": ["otlp"], "processors": ["batch"], "exporters": ["jaeger_storage_exporter"]}
    return {
        "service": {
            "extensions": ["jaeger_storage", "jaeger_query"],
            "pipelines": {"traces": stages},
            "telemetry": {"metrics": {"level": "none"}, "logs": {"level": "warn"}},
        },
        "extensions": {
            "jaeger_storage": {"backends": {"memory": {"memory": {"max_traces": MOST_TRACES}}}},
            "jaeger_query": {
                "storage": {"traces": "memory"},
                "http": {"endpoint": f"{LOCAL}:{query_port}"},
                "grpc": {"endpoint": f"{LOCAL}:0"},
            },
        },
        "receivers": {"otlp": {"protocols": {"grpc": {"endpoint": f"{LOCAL}:{otlp_port}"}}}},
        "processors": {"batch": {"timeout": "200ms"}},
        "exporters": {"jaeger_storage_exporter": {"trace_storage": "memory"}},
    }


def _free(port: int) -> int:
    """Return that port, or a free one for 0. Where it is taken, end the process with the reason."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOCAL, port))
        except OSError as error:
            sys.exit(f"Jaeger's port {port} cannot be used ({error.strerror}): stop what uses it, or give --free-ports")
        return int(probe.getsockname()[1])


def main() -> None:
    """Write the process number and addresses, then become Jaeger."""
    binary, settings, ready = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    query, otlp = (_free(int(port)) for port in os.environ[PORTS_VARIABLE].split(","))
    settings.write_text(json.dumps(configuration(query, otlp), indent=1))
    end_with_parent()
    told = {"pid": os.getpid(), "ui": f"http://{LOCAL}:{query}", "otlp": f"http://{LOCAL}:{otlp}"}
    draft = ready.with_suffix(".draft")
    draft.write_text(json.dumps(told))
    draft.replace(ready)
    os.execv(binary, [binary, "--config", str(settings)])


if __name__ == "__main__":
    main()
