"""`lensmesh status`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from lensmesh_cli.console import EXIT_CODES, Exit, out, print_json
from lensmesh_cli.options import DEFAULT_TARGET, CaFile, CertificateFile, Connect, Json, KeyFile, Target, Timeout
from lensmesh_cli.printable import printable

if TYPE_CHECKING:
    from rich.table import Table

    from lensmesh_client import MeshStatus, Model, Service

EPILOG = (
    f"Example: lensmesh status --json | jq '.services[].memory_mb'\n\n{EXIT_CODES} 1 here: a service is not serving."
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG)(status)


def status(
    json_output: Json = False,
    target: Target = DEFAULT_TARGET,
    ca_file: CaFile = "",
    certificate_file: CertificateFile = "",
    key_file: KeyFile = "",
    timeout: Timeout = 15.0,
) -> None:
    """Show every service of a mesh: address, health, model, device, memory."""
    connect = Connect(target, ca_file, certificate_file, key_file, timeout)
    found = connect.run(lambda client: client.status())
    if json_output:
        print_json(as_json(found, target))
    else:
        out.print(table(found, target))
    if not found.serving:
        raise typer.Exit(int(Exit.FAILED))


def table(found: MeshStatus, target: str) -> Table:
    """Return a table with one row for each process."""
    from rich.table import Table
    from rich.text import Text

    from lensmesh_client import Health

    colours = {Health.SERVING: "green", Health.NOT_SERVING: "yellow", Health.UNREACHABLE: "red", Health.UNKNOWN: "dim"}
    rows = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("service", "address", "health", "model", "runs on", "memory"):
        rows.add_column(name, justify="right" if name == "memory" else "left", overflow="fold")
    rows.add_row("router", target, Text("serving", "green"), "", "", megabytes(found.server.memory_bytes))
    if found.media.trouble:
        rows.add_row("", "", Text(printable(f"the media store takes nothing: {found.media.trouble}"), "dim"))
    for service in found.services:
        rows.add_row(
            Text(printable(service.kind)),
            Text(printable(service.address)),
            Text(service.health.value, colours[service.health]),
            Text(printable(_serves(service))),
            Text(printable(", ".join(_device(model) for model in service.models))),
            megabytes(service.server.memory_bytes),
        )
        if service.reason:
            rows.add_row("", "", Text(printable(service.reason), "dim"))
    return rows


def _serves(service: Service) -> str:
    if service.store:
        return service.store
    dimensions = {space.model: space.dimension for space in service.spaces}
    return ", ".join(
        f"{model.name} ({model.kind}" + (f", {dimensions[model.name]}-d)" if model.name in dimensions else ")")
        for model in service.models
    )


def _device(model: Model) -> str:
    devices = "+".join(device.name or device.id for device in model.devices)
    return " ".join(part for part in (devices, model.precision, model.backend) if part)


def megabytes(size: int) -> str:
    """Format resident memory in MB of 10**6 bytes, as `status` and `up` print it."""
    return f"{size / 1e6:.0f} MB" if size else ""


def as_json(found: MeshStatus, target: str) -> dict[str, object]:
    """Return the status for programs. Memory is in bytes, and in MB of 10**6 bytes."""
    from dataclasses import asdict

    services = [
        {**asdict(service), "kind": service.kind, "memory_mb": round(service.server.memory_bytes / 1e6)}
        for service in found.services
    ]
    return {
        "target": target,
        "serving": found.serving,
        "router": {**asdict(found.server), "memory_mb": round(found.server.memory_bytes / 1e6)},
        "limits": asdict(found.limits),
        "media": asdict(found.media),
        "services": services,
    }
