"""The `lensmesh` command: its sub-commands, and the one place where errors become messages."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup
from typing_extensions import override

import lensmesh_chassis.process.grpc_log_level  # noqa: F401 - for its effect, which gRPC reads at its import
from lensmesh_cli.console import EXIT_CODES, Exit, fail, print_json, say_error
from lensmesh_cli.options import Json


class Commands(TyperGroup):
    """The sub-commands. Ctrl-C ends each of them with the same words, wherever the command is at that moment."""

    @override
    def invoke(self, ctx: Any) -> Any:
        """Run a sub-command as typer does."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            fail("interrupted", Exit.INTERRUPTED)


app = typer.Typer(
    name="lensmesh",
    cls=Commands,
    help="Images as vectors, captions and search.\n\nStart with: lensmesh demo\n\n" + EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
)


@app.command()
def version(json_output: Json = False) -> None:
    """Show the release of lensmesh and of the software that it runs on.

    Example: lensmesh version --json
    """
    import platform

    import grpc

    from lensmesh_chassis.process.server_info import version as release

    found = {"lensmesh": release(), "python": platform.python_version(), "grpcio": grpc.__version__}
    if json_output:
        print_json(found)
    else:
        typer.echo("\n".join(f"{name} {number}" for name, number in found.items()))


def _add_commands() -> None:
    # Each module imports typer and its options only; what a command needs is imported when it runs.
    from lensmesh_cli.commands import (
        bench,
        calibrate,
        caption,
        classify,
        demo,
        doctor,
        duplicates,
        embed,
        import_,
        ingest,
        jobs,
        match,
        mcp,
        search,
        smoke,
        stats,
        status,
        top,
        up,
    )

    working = (ingest, import_, search, match, embed, caption, classify, stats, calibrate, duplicates, jobs)
    for module in (demo, up, doctor, *working, mcp, status, smoke, top, bench):
        module.register(app)


_add_commands()


def main() -> None:
    """Run the console script."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal of another encoding shows what it can.
            stream.reconfigure(errors="backslashreplace")
    sys.exit(run())


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. By default the command is that of the process.

    A traceback is shown only if LENSMESH_DEBUG is set.
    """
    code = 0
    try:
        app(arguments)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except Exception as error:
        if os.environ.get("LENSMESH_DEBUG"):
            raise
        code = int(_explain(error))
    return _flush(code)


def _flush(code: int) -> int:
    """Write what is still in the buffer. Python would do so after the exit code is settled, and show a traceback."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_output()
    except OSError as error:
        _drop_output()
        code = code or int(_explain(error))
    return code


def _drop_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _explain(error: Exception) -> Exit:
    from lensmesh_client.errors import DeadlineExceeded, LensmeshError, Unavailable

    if isinstance(error, Unavailable | DeadlineExceeded):
        say_error(error.message)
        return Exit.UNREACHABLE
    if isinstance(error, LensmeshError):
        wait = "" if error.retry_after_s is None else f" Try again in {error.retry_after_s:g} s."
        say_error(f"{error.message}{wait} ({error.reason})")
    elif isinstance(error, BrokenPipeError):
        # Whoever read the output has seen enough.
        _drop_output()
    elif isinstance(error, OSError):
        from lensmesh_cli.disk import explain

        say_error(explain(error))
    else:
        say_error(
            f"{type(error).__name__}: {error}\nThis is a defect of lensmesh: LENSMESH_DEBUG=1 lensmesh ... shows where."
        )
    return Exit.FAILED
