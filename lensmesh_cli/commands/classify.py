"""`lensmesh classify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lensmesh_cli.console import EXIT_CODES, Exit, SafeConsole, note, out, print_json
from lensmesh_cli.options import (
    DEFAULT_TARGET,
    CaFile,
    CertificateFile,
    Connect,
    Json,
    KeyFile,
    Target,
    Timeout,
)
from lensmesh_cli.printable import printable

EPILOG = (
    "Example: lensmesh classify photos/ --labels animals.txt --template 'a photo of a {}'\n\n"
    "A file of labels has one in each line; empty lines and lines that begin with # are none. docs/classify.md tells "
    "what the numbers mean.\n\n" + EXIT_CODES
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG)(classify)


def classify(
    paths: Annotated[list[Path], typer.Argument(help="Images, and folders with images.", metavar="PATH")],
    labels: Annotated[Path | None, typer.Option(help="File with a label in each line.", metavar="FILE")] = None,
    label: Annotated[list[str] | None, typer.Option(help="A label; repeatable.", metavar="WORDS")] = None,
    template: Annotated[
        list[str] | None,
        typer.Option(
            help="Sentence around a label, with {} in its place; several are averaged; by default: a photo of {}.",
            metavar="WORDS",
        ),
    ] = None,
    top: Annotated[int, typer.Option(help="Best labels of each image to show; 0: all.", min=0, max=10_000)] = 5,
    space_id: Annotated[
        str, typer.Option(help="Id of a vector space: fail if the mesh does not serve it; empty: the default.")
    ] = "",
    json_output: Json = False,
    target: Target = DEFAULT_TARGET,
    ca_file: CaFile = "",
    certificate_file: CertificateFile = "",
    key_file: KeyFile = "",
    timeout: Timeout = 300.0,
) -> None:
    """Tell which labels fit images best, without training. The number after a label is its probability, 0 to 1."""
    from lensmesh_cli.disk import explain
    from lensmesh_cli.labels import chosen_labels
    from lensmesh_cli.progress import Bar
    from lensmesh_cli.reading import contents
    from lensmesh_cli.sources import named_images
    from lensmesh_client import ClassifyResult, Client

    words = chosen_labels(labels, label or ())
    files, problems = named_images(paths)
    connect = Connect(target, ca_file, certificate_file, key_file, timeout)
    failures = [(problem.path, "IMAGE_MISSING", explain(problem.error)) for problem in problems]
    found: list[tuple[Path, ClassifyResult]] = []

    async def work(client: Client) -> None:
        with Bar(SafeConsole(stderr=True, quiet=json_output), "classify", len(files)) as bar:
            async for part, refused in contents(client, files):
                for one in refused:
                    failures.append((one.path, one.reason, one.message))
                    bar.step(ok=False)
                answers = await client.classify(
                    [one.data for one in part],
                    words,
                    templates=template or (),
                    top=top,
                    space_id=space_id,
                    priority="bulk",
                )
                for ready, answer in zip(part, answers, strict=True):
                    if answer.error is None:
                        found.append((ready.path, answer))
                    else:
                        failures.append((ready.path, answer.error.reason, answer.error.message))
                    bar.step(ok=answer.error is None)

    connect.run(work)
    if cut := max((answer.truncated_labels for _, answer in found), default=0):
        note(f"{cut} of the labels are longer than the model reads, and count by their beginnings")
    if json_output:
        scored = [
            {
                "path": str(path),
                "labels": [{"label": name, "probability": share} for name, share in answer.ranked],
                "error": None,
            }
            for path, answer in found
        ]
        failed = [
            {"path": str(path), "labels": [], "error": {"reason": reason, "message": message}}
            for path, reason, message in failures
        ]
        print_json([*scored, *failed])
    else:
        for path, answer in found:
            said = ", ".join(f"{printable(name)} ({share:.2f})" for name, share in answer.ranked)
            out.print(f"{printable(str(path))}: {said}", markup=False, highlight=False, soft_wrap=True)
    for path, reason, message in failures:
        note(f"failed: {printable(str(path))}: {message} ({reason})")
    if failures:
        raise typer.Exit(int(Exit.FAILED))
