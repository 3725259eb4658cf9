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
from lensmesh_cli.printable import printable

EPILOG = (
    "Example: lensmesh embed photos/ -o vectors.parquet\n\n"
    ".parquet: columns path, space_id, vector (float32 list); needs pyarrow, which lensmesh\\[parquet] brings. "
    ".npy: float32 of shape (n, d), and the paths beside it in FILE.paths.txt, one a line. "
    ".jsonl: one object a line.\n\n" + EXIT_CODES
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG)(embed)


def embed(
    paths: Annotated[list[Path], typer.Argument(help="Images, and folders with images.", metavar="PATH")],
    output: Annotated[Path, typer.Option("--output", "-o", help="FILE.parquet, FILE.npy or FILE.jsonl.")],
    space_id: Annotated[
        str, typer.Option(help="Id of a vector space: fail if the mesh does not serve it; empty: the default.")
    ] = "",
    transparency: TransparencyOption = None,
    json_output: Json = False,
    target: Target = DEFAULT_TARGET,
    ca_file: CaFile = "",
    certificate_file: CertificateFile = "",
    key_file: KeyFile = "",
    timeout: Timeout = 120.0,
) -> None:
    """Write the vectors of images into a file. Nothing is stored in the mesh."""
    from lensmesh_cli.vectors import WRITERS, check

    if output.suffix not in WRITERS:
        fail(f"{output} must end in one of {', '.join(WRITERS)}", Exit.USAGE)
    missing = check(output)
    if missing:
        fail(missing, Exit.USAGE)
    from lensmesh_cli.sources import named_images

    files, problems = named_images(paths)
    check_writable(output, "--output")
    connect = Connect(target, ca_file, certificate_file, key_file, timeout)

    from lensmesh_cli.disk import explain
    from lensmesh_cli.progress import Bar
    from lensmesh_cli.reading import contents
    from lensmesh_client import Client, Embeddings

    good: list[Path] = []
    failures = [(problem.path, "IMAGE_MISSING", explain(problem.error)) for problem in problems]

    async def work(client: Client) -> list[Embeddings]:
        parts = []
        with Bar(err, "embed", len(files)) as bar:
            async for part, refused in contents(client, files):
                for one in refused:
                    failures.append((one.path, one.reason, one.message))
                    bar.step(ok=False)
                if not part:
                    continue
                found = await client.embed(
                    images=[one.data for one in part], space_id=space_id, transparency=transparency, priority="bulk"
                )
                parts.append(found)
                for index, ready in enumerate(part):
                    if error := found.errors.get(index):
                        failures.append((ready.path, error.reason, error.message))
                    else:
                        good.append(ready.path)
                    bar.step(ok=error is None)
        return parts

    parts = connect.run(work)
    if not good:
        fail(f"no image could be embedded; the first error: {failures[0][2]}")
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
                    {"path": str(path), "reason": reason, "message": message} for path, reason, message in failures
                ],
            }
        )
    else:
        out.print(f"{len(vectors)} vectors of {vectors.shape[1]} numbers in {output}", highlight=False)
        for path, reason, message in failures:
            note(f"failed: {printable(str(path))}: {message} ({reason})")
    if failures:
        raise typer.Exit(int(Exit.FAILED))
