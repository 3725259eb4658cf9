"""`lensmesh mcp`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lensmesh_cli.console import EXIT_CODES, fail
from lensmesh_cli.options import DEFAULT_TARGET, CaFile, CertificateFile, Connect, KeyFile, Target, Timeout

EPILOG = (
    "Example: lensmesh mcp --folder ~/Pictures\n\n"
    "An MCP client starts this command itself and speaks with it by standard input and output; docs/mcp.md shows the "
    "lines of its configuration. Without --folder no file of this machine is read and nothing is stored.\n\n"
    + EXIT_CODES
)
MISSING = 'the MCP SDK is not installed: pip install "lensmesh[mcp]"'


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG)(mcp)


def mcp(
    folders: Annotated[
        list[Path] | None,
        typer.Option(
            "--folder",
            metavar="FOLDER",
            help="A folder whose images tools may read, search by and ingest; repeatable.",
            exists=True,
            file_okay=False,
            readable=True,
        ),
    ] = None,
    listen: Annotated[
        str,
        typer.Option(
            metavar="HOST:PORT",
            help="Serve by streamable HTTP on this address of this machine instead, such as 127.0.0.1:8765.",
        ),
    ] = "",
    target: Target = DEFAULT_TARGET,
    ca_file: CaFile = "",
    certificate_file: CertificateFile = "",
    key_file: KeyFile = "",
    timeout: Timeout = 60.0,
) -> None:
    """Serve search and ingest as tools for language models, by the Model Context Protocol."""
    try:
        # Of another major version, the package is there and this module is not.
        import mcp.server.mcpserver  # noqa: F401
    except ImportError:
        fail(MISSING)
    from lensmesh_cli.mcp.serving import serve

    serve(Connect(target, ca_file, certificate_file, key_file, timeout), folders or [], listen)
