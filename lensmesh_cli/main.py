"""The `lensmesh` command: its sub-commands, and the one place where errors become messages."""

from __future__ import annotations

import os
import sys

import typer

import lensmesh_chassis.quiet_grpc  # noqa: F401 - for its effect, which gRPC reads at its import
from lensmesh_cli.console import EXIT_CODES, Exit, err, print_json
from lensmesh_cli.options import Json

app = typer.Typer(
    name="lensmesh",
    help="Pictures as vectors, captions and search.\n\nStart with: lensmesh demo\n\n" + EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
)


@app.command()
def version(json_output: Json = False) -> None:
    """The release of lensmesh and of what it stands on.

    Example: lensmesh version --json
    """
    import platform

    import grpc

    from lensmesh_chassis.process import version as release

    found = {"lensmesh": release(), "python": platform.python_version(), "grpcio": grpc.__version__}
    if json_output:
        print_json(found)
    else:
        typer.echo("\n".join(f"{name} {number}" for name, number in found.items()))


def _add_commands() -> None:
    # Each module imports typer and its options only; what a command needs is imported when it runs.
    from lensmesh_cli.commands import bench, caption, demo, doctor, embed, ingest, search, smoke, status, top, up

    for module in (demo, up, doctor, ingest, search, embed, caption, status, smoke, top, bench):
        module.register(app)


_add_commands()


def main() -> None:
    """The console script. Never shows a traceback unless LENSMESH_DEBUG is set."""
    try:
        app()
    except Exception as error:
        if os.environ.get("LENSMESH_DEBUG"):
            raise
        sys.exit(int(_explain(error)))


def _explain(error: Exception) -> Exit:
    from lensmesh_client.errors import DeadlineExceeded, LensmeshError, Unavailable

    if isinstance(error, Unavailable | DeadlineExceeded):
        return _say(error.message, Exit.UNREACHABLE)
    if isinstance(error, LensmeshError):
        wait = "" if error.retry_after_s is None else f" Try again in {error.retry_after_s:g} s."
        return _say(f"{error.message}{wait} ({error.reason})", Exit.FAILED)
    return _say(
        f"{type(error).__name__}: {error}\nThis is a defect of lensmesh: LENSMESH_DEBUG=1 lensmesh ... shows where.",
        Exit.FAILED,
    )


def _say(message: str, code: Exit) -> Exit:
    err.print("[bold red]error:[/] ", end="")
    err.print(message, markup=False, highlight=False, soft_wrap=True)
    return code
