"""`lensmesh smoke`."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Annotated

import typer

from lensmesh_cli.console import EXIT_CODES, Exit, err, fail, out, print_json
from lensmesh_cli.options import (
    DEFAULT_TARGET,
    MESH,
    CaFile,
    CertificateFile,
    Json,
    KeyFile,
    Target,
    Timeout,
    check_seconds,
)

if TYPE_CHECKING:
    from lensmesh_cli.smoke.report import StepOutcome

EPILOG = (
    "Example: lensmesh smoke --target router.example.org:443 --ca-file ca.pem --jaeger http://jaeger:16686\n\n"
    f"{EXIT_CODES} 1 here: a step failed, or was not reached."
)
ServerName = Annotated[
    str,
    typer.Option(
        "--server-name", help="Name in the router's certificate, where it differs from --target.", rich_help_panel=MESH
    ),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG)(smoke)


def smoke(
    jaeger: Annotated[
        str,
        typer.Option(
            envvar="LENSMESH_JAEGER_URL",
            help="http://HOST:PORT of Jaeger's query API: the run's trace is looked up there.",
        ),
    ] = "",
    http: Annotated[
        str,
        typer.Option(envvar="LENSMESH_PAGE_URL", help="Address of the front door, host:port or http(s)://: tried too."),
    ] = "",
    wait: Annotated[
        float, typer.Option(help="Seconds to wait until all services are ready.", min=0, callback=check_seconds)
    ] = 0.0,
    json_output: Json = False,
    target: Target = DEFAULT_TARGET,
    ca_file: CaFile = "",
    certificate_file: CertificateFile = "",
    key_file: KeyFile = "",
    server_name: ServerName = "",
    timeout: Timeout = 60.0,
) -> None:
    """Try a running mesh once from outside: health, reflection, encode, caption, ingest, search, HTTP, delete.

    Says of each step how long it took, or what failed and where to look. Writes into a collection of its own, and
    removes it whatever happens.
    """
    from lensmesh_chassis.tls.credentials import ChannelSecurity
    from lensmesh_cli.smoke.mesh import Options
    from lensmesh_cli.smoke.report import StepGrade
    from lensmesh_cli.smoke.run import INTERRUPTED
    from lensmesh_cli.smoke.run import smoke as run

    if bool(certificate_file) != bool(key_file):
        fail("--certificate-file and --key-file go together", Exit.USAGE)
    for name in (ca_file, certificate_file, key_file):
        if name and not os.access(name, os.R_OK):
            fail(f"{name} cannot be read", Exit.USAGE)
    security = ChannelSecurity(ca_file, certificate_file, key_file)
    options = Options(target, security, server_name, jaeger, http, timeout, wait)
    try:
        outcomes = asyncio.run(run(options, (lambda _: None) if json_output else show))
    except KeyboardInterrupt:
        fail("interrupted before it could clean up: look for collections named smoke-...", Exit.INTERRUPTED)
    good = [outcome for outcome in outcomes if outcome.grade is StepGrade.OK]
    whole = len(good) == len(outcomes)
    if json_output:
        print_json({"ok": whole, "target": target, "steps": [outcome.as_json() for outcome in outcomes]})
    else:
        seconds = sum(outcome.seconds for outcome in outcomes)
        err.print(f"{len(good)} of {len(outcomes)} steps went well, {seconds:.1f} s", highlight=False)
    if any(outcome.found == INTERRUPTED for outcome in outcomes):
        raise typer.Exit(int(Exit.INTERRUPTED))
    if not whole:
        raise typer.Exit(int(Exit.FAILED))


def show(outcome: StepOutcome) -> None:
    """Print one line for each step, and one more that says where to look."""
    from rich.text import Text

    from lensmesh_cli.smoke.report import StepGrade

    colours = {StepGrade.OK: "green", StepGrade.FAIL: "red", StepGrade.SKIP: "yellow"}
    line = Text.assemble(
        (f"{outcome.grade:<5}", colours[outcome.grade]),
        f"{outcome.step:<11}{outcome.seconds:7.2f} s  {outcome.found}",
    )
    out.print(line, soft_wrap=True, highlight=False)
    if outcome.look:
        out.print(Text(f"{'':27}look at: {outcome.look}", "dim"), soft_wrap=True, highlight=False)
