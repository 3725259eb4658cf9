"""`lensmesh caption`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from lensmesh_cli.console import EXIT_CODES, Exit, fail, note, out, print_json
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
from lensmesh_cli.printable import printable

EPILOG = f"Example: lensmesh caption holiday/*.jpg --json\n\n{EXIT_CODES}"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG)(caption)


def caption(
    files: Annotated[list[Path], typer.Argument(help="Images.", metavar="FILE")],
    prompt: Annotated[str, typer.Option(help="Words the caption begins with.")] = "",
    max_tokens: Annotated[int, typer.Option(help="Longest caption; 0: the service's default.", min=0)] = 0,
    beams: Annotated[int, typer.Option(help="Beams of the search; 0: greedy.", min=0, max=8)] = 0,
    model: Annotated[
        str, typer.Option(help="Name of a model: fail if the mesh does not serve it; empty: the default.")
    ] = "",
    transparency: TransparencyOption = None,
    json_output: Json = False,
    target: Target = DEFAULT_TARGET,
    ca_file: CaFile = "",
    certificate_file: CertificateFile = "",
    key_file: KeyFile = "",
    timeout: Timeout = 120.0,
) -> None:
    """Describe images in words. The number after a caption is its confidence, 0 to 1."""
    from lensmesh_cli.reading import contents
    from lensmesh_client import CaptionResult, Client
    from lensmesh_client.errors import InvalidInput, Reason

    if not any(map(os.path.lexists, files)):
        fail(f"{printable(str(files[0]))} does not exist", Exit.USAGE)
    connect = Connect(target, ca_file, certificate_file, key_file, timeout)

    async def work(client: Client) -> list[CaptionResult]:
        found: dict[int, CaptionResult] = {}
        async for part, refused in contents(client, files):
            for one in refused:
                found[one.index] = CaptionResult(error=InvalidInput(Reason(one.reason), one.message, field="images"))
            answers = await client.caption(
                [one.data for one in part],
                prompt=prompt,
                max_tokens=max_tokens,
                beams=beams,
                model=model,
                transparency=transparency,
            )
            found.update(zip((one.index for one in part), answers, strict=True))
        return [found[index] for index in range(len(files))]

    results = connect.run(work)
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
            note(f"{printable(str(path))}: {result.error.message} ({result.error.reason})")
        elif result.caption is not None and not json_output:
            out.print(
                f"{printable(str(path))}: {printable(result.caption.text)} ({result.caption.confidence:.2f})",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )
    if any(result.error for result in results):
        raise typer.Exit(int(Exit.FAILED))
