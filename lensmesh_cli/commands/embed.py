"""`lensmesh embed`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lensmesh_cli.console import EXIT_CODES, Exit, err, fail, note, out, print_json
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
    check_writable,
)

EPILOG = (
    "Example: lensmesh embed photos/ -o vectors.parquet\n\n"
    ".parquet: columns path, space_id, vector (float32 list); needs pyarrow, which lensmesh\\[parquet] brings. "
    ".npy: float32 of shape (n, d), and the paths beside it in FILE.paths.txt, one a line. "
    ".jsonl: one object a line.\n\n" + EXIT_CODES
)
CHUNK = 256


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(epilog=EPILOG)(embed)


def embed(
    paths: Annotated[list[Path], typer.Argument(help="Pictures, and folders with pictures.", metavar="PATH")],
    output: Annotated[Path, typer.Option("--output", "-o", help="FILE.parquet, FILE.npy or FILE.jsonl.")],
    space_id: Annotated[str, typer.Option(help="The only vector space that will do.")] = "",
    transparency: TransparencyOption = None,
    json_output: Json = False,
    target: Target = DEFAULT_TARGET,
    ca_file: CaFile = "",
    certificate_file: CertificateFile = "",
    key_file: KeyFile = "",
    timeout: Timeout = 120.0,
) -> None:
    """Pictures as vectors, into a file. Nothing is stored in the mesh."""
    from lensmesh_cli.files import pictures
    from lensmesh_cli.vectors import WRITERS, check

    if output.suffix not in WRITERS:
        fail(f"{output} must end in one of {', '.join(WRITERS)}", Exit.USAGE)
    missing = check(output)
    if missing:
        fail(missing, Exit.USAGE)
    check_writable(output, "--output")
    files = pictures(paths)
    if not files:
        fail("no pictures there", Exit.USAGE)
    connect = Connect(target, ca_file, certificate_file, key_file, timeout)

    from lensmesh_cli.progress import Bar
    from lensmesh_client import Client, Embeddings

    async def work(client: Client) -> list[Embeddings]:
        parts = []
        with Bar(err, "embed", len(files)) as bar:
            for start in range(0, len(files), CHUNK):
                part = await client.embed(
                    images=files[start : start + CHUNK], space_id=space_id, transparency=transparency, priority="bulk"
                )
                parts.append(part)
                for index in range(len(part)):
                    bar.step(ok=index not in part.errors)
        return parts

    parts = connect.run(work)
    good: list[Path] = []
    failures = []
    for number, part in enumerate(parts):
        for index in range(len(part)):
            path = files[number * CHUNK + index]
            if index in part.errors:
                failures.append((path, part.errors[index]))
            else:
                good.append(path)
    if not good:
        fail(f"no picture could be embedded; the first error: {failures[0][1].message}")
    spaces = {part.space_id for part in parts if part.space_id}
    if len(spaces) > 1:
        fail(f"the mesh answered in several spaces ({', '.join(sorted(spaces))}): name one with --space-id")
    import numpy as np

    vectors = np.concatenate([np.delete(part.vectors, list(part.errors), axis=0) for part in parts if part.space_id])
    WRITERS[output.suffix](output, good, vectors, spaces.pop())
    if json_output:
        print_json(
            {
                "output": str(output),
                "vectors": len(vectors),
                "dimension": vectors.shape[1],
                "errors": [
                    {"path": str(path), "reason": error.reason, "message": error.message} for path, error in failures
                ],
            }
        )
    else:
        out.print(f"{len(vectors)} vectors of {vectors.shape[1]} numbers in {output}", highlight=False)
        for path, error in failures:
            note(f"failed: {path}: {error.message} ({error.reason})")
    if failures:
        raise typer.Exit(int(Exit.FAILED))
