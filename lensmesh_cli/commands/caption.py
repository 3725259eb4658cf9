"""`lensmesh caption`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lensmesh_cli.console import EXIT_CODES, Exit, note, out, print_json
from lensmesh_cli.options import (
    DEFAULT_TARGET,
    CaFile,
    CertificateFile,
    Connect,
    Json,
    KeyFile,
    Target,
    Timeout,
    TransparencyOption,
)

EPILOG = f"Example: lensmesh caption holiday/*.jpg --json\n\n{EXIT_CODES}"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(epilog=EPILOG)(caption)


def caption(
    files: Annotated[list[Path], typer.Argument(help="Pictures.", exists=True, dir_okay=False, metavar="FILE")],
    prompt: Annotated[str, typer.Option(help="Words the caption begins with.")] = "",
    max_tokens: Annotated[int, typer.Option(help="Longest caption; 0: the service's default.", min=0)] = 0,
    beams: Annotated[int, typer.Option(help="Beams of the search; 0: greedy.", min=0, max=8)] = 0,
    model: Annotated[str, typer.Option(help="The only model that will do.")] = "",
    transparency: TransparencyOption = None,
    json_output: Json = False,
    target: Target = DEFAULT_TARGET,
    ca_file: CaFile = "",
    certificate_file: CertificateFile = "",
    key_file: KeyFile = "",
    timeout: Timeout = 120.0,
) -> None:
    """Pictures in words. The number after a caption is its confidence, 0 to 1."""
    connect = Connect(target, ca_file, certificate_file, key_file, timeout)
    results = connect.run(
        lambda client: client.caption(
            files, prompt=prompt, max_tokens=max_tokens, beams=beams, model=model, transparency=transparency
        )
    )
    if json_output:
        print_json(
            [
                {
                    "path": str(path),
                    "caption": result.caption.text if result.caption else None,
                    "confidence": result.caption.confidence if result.caption else None,
                    "model": result.caption.model if result.caption else None,
                    "error": None
                    if result.error is None
                    else {"reason": result.error.reason, "message": result.error.message},
                }
                for path, result in zip(files, results, strict=True)
            ]
        )
    for path, result in zip(files, results, strict=True):
        if result.error is not None:
            note(f"{path}: {result.error.message} ({result.error.reason})")
        elif result.caption is not None and not json_output:
            out.print(
                f"{path}: {result.caption.text} ({result.caption.confidence:.2f})",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )
    if any(result.error for result in results):
        raise typer.Exit(int(Exit.FAILED))
