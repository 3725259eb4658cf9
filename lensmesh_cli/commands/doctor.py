"""`lensmesh doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lensmesh_chassis.contract import PORTS
from lensmesh_cli.console import EXIT_CODES, Exit, out, print_json
from lensmesh_cli.options import Json

EPILOG = f"Example: lensmesh doctor --data /srv/lensmesh\n\n{EXIT_CODES} 1 here: a check failed."


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG)(doctor)


def doctor(
    data: Annotated[
        Path, typer.Option(help="Folder that `up` would use.", envvar="LENSMESH_DATA", file_okay=False)
    ] = Path("lensmesh-data"),
    port: Annotated[int, typer.Option(help="The router's port; the next four are checked too.", max=65531)] = PORTS[
        "router"
    ],
    json_output: Json = False,
) -> None:
    """Check what this machine has and lacks, before anything runs. Each finding comes with its fix."""
    from rich.text import Text

    from lensmesh_cli.checks import CHECKS, Severity

    colours = {Severity.OK: "green", Severity.WARN: "yellow", Severity.FAIL: "red"}
    findings = []
    for check in CHECKS:
        finding = check(data, port)
        findings.append(finding)
        if not json_output:
            line = Text.assemble((f"{finding.grade:<5}", colours[finding.grade]), f"{finding.name:<12}", finding.found)
            out.print(line, soft_wrap=True, highlight=False)
            if finding.fix:
                label = "note" if finding.grade is Severity.OK else "fix"
                out.print(Text(f"{'':17}{label}: {finding.fix}", "dim"), soft_wrap=True, highlight=False)
    bad = [finding for finding in findings if finding.grade is Severity.FAIL]
    if json_output:
        print_json({"ok": not bad, "checks": [finding.as_json() for finding in findings]})
    if bad:
        raise typer.Exit(int(Exit.FAILED))
