"""`lensmesh match`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lensmesh_cli.console import EXIT_CODES, Exit, SafeConsole, fail, note, out, print_json
from lensmesh_cli.options import (
    DEFAULT_TARGET,
    CaFile,
    CertificateFile,
    Collection,
    Connect,
    KeyFile,
    Target,
    Timeout,
    check_writable,
)
from lensmesh_cli.printable import printable

if TYPE_CHECKING:
    from lensmesh_cli.match.show import MatchedFile
    from lensmesh_client import Client

EPILOG = (
    "Example: lensmesh match photo.jpg --collection art --entry artist,title --html matches.html\n\n"
    "A verdict is match, unsure (a person should look) or no match. docs/matching.md tells what it rests on, and how "
    "often it is wrong.\n\n"
    + EXIT_CODES
    + " 4 here: all images were looked at, but some show no entry for sure; so 0 means that each of them is a match."
)
# As MatchImagesRequest.entry_fields of the contract.
MOST_FIELDS = 4


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG)(match)


def _check_share(value: float | None) -> float | None:
    """Check that it is a number: Python reads "nan" too, and it is within any bounds."""
    if value is not None and math.isnan(value):
        raise typer.BadParameter("nan is no number from 0 to 1")
    return value


def match(
    paths: Annotated[list[Path], typer.Argument(help="Images, and folders with images.", metavar="PATH")],
    collection: Collection = "",
    entry: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELDS",
            help="Metadata fields whose values name an entry, as in artist,title: items that are equal in all of them "
            "are views of one. By default each item is an entry.",
        ),
    ] = None,
    filters: Annotated[
        list[str] | None,
        typer.Option("--filter", "-f", metavar="CONDITION", help="Which items may be found, as in lensmesh search."),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Least confidence of a match. \\[default: 0.8]",
            min=0,
            max=1,
            callback=_check_share,
            show_default=False,
        ),
    ] = None,
    unsure: Annotated[
        float | None,
        typer.Option(
            help="Least confidence of unsure. \\[default: 0.5]", min=0, max=1, callback=_check_share, show_default=False
        ),
    ] = None,
    candidates: Annotated[
        int | None,
        typer.Option(help="Items that are looked at more closely. \\[default: 20]", min=1, max=100, show_default=False),
    ] = None,
    alternatives: Annotated[int, typer.Option(help="Further entries to show for each image.", min=0, max=10)] = 0,
    space: Annotated[str, typer.Option(help="The collection's space to look in; empty: its first.")] = "",
    html: Annotated[Path | None, typer.Option(help="Also write a page with the images.", dir_okay=False)] = None,
    images_from: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FOLDER",
            help="A folder whose images the page may show, beside those that you ingested from into this mesh; "
            "repeatable.",
            exists=True,
        ),
    ] = None,
    json_output: Annotated[
        bool, typer.Option("--json", help="A line of JSON for each image on standard output, as it is known.")
    ] = False,
    target: Target = DEFAULT_TARGET,
    ca_file: CaFile = "",
    certificate_file: CertificateFile = "",
    key_file: KeyFile = "",
    timeout: Timeout = 300.0,
) -> None:
    """Tell which entry of a collection each image shows, or that it shows none.

    It may be cropped, turned, encoded again or photographed again.
    """
    fields = [name for each in entry or [] for name in each.split(",")]
    if len(fields) > MOST_FIELDS or "" in fields or len({*fields}) < len(fields):
        fail(f"--entry takes 1 to {MOST_FIELDS} different fields, as in artist,title", Exit.USAGE)
    if threshold is not None and unsure is not None and unsure > threshold:
        fail(f"--unsure {unsure:g} is above --threshold {threshold:g}: an unsure image is less sure", Exit.USAGE)
    from lensmesh_cli.disk import explain
    from lensmesh_cli.match.show import MatchedFile, as_json, table
    from lensmesh_cli.progress import Bar
    from lensmesh_cli.reading import contents
    from lensmesh_cli.sources import named_images
    from lensmesh_client import InvalidInput, LensmeshError, MatchResult, MatchVerdict, Reason, parse_filter

    try:
        chosen = parse_filter(filters) if filters else None
    except LensmeshError as error:
        fail(error.message, Exit.USAGE)
    if html is not None:
        check_writable(html, "--html")
    files, problems = named_images(paths)
    connect = Connect(target, ca_file, certificate_file, key_file, timeout)
    known: list[MatchedFile] = []

    def tell(file: MatchedFile) -> None:
        known.append(file)
        if json_output:
            print_json(as_json(file))

    def refuse(path: Path, reason: str, message: str) -> None:
        tell(MatchedFile(path, MatchResult(error=InvalidInput(Reason(reason), message))))

    async def work(client: Client) -> None:
        for problem in problems:
            refuse(problem.path, Reason.IMAGE_MISSING, explain(problem.error))
        with Bar(SafeConsole(stderr=True, quiet=json_output), "match", len(files)) as bar:
            async for part, refused in contents(client, files):
                for one in refused:
                    refuse(one.path, one.reason, one.message)
                    bar.step(ok=False)
                answers = await client.match(
                    [one.data for one in part],
                    collection=collection,
                    entry_fields=fields,
                    filter=chosen,
                    space=space,
                    candidates=candidates or 0,
                    alternatives=alternatives,
                    match_threshold=threshold,
                    unsure_threshold=unsure,
                    priority="bulk" if len(files) > 1 else None,
                )
                for ready, answer in zip(part, answers, strict=True):
                    tell(MatchedFile(ready.path, answer))
                    bar.step(ok=answer.error is None)

    connect.run(work)
    failed = [file for file in known if file.found.error is not None]
    looked_at = [file for file in known if file.found.error is None]
    if not json_output and looked_at:
        out.print(table(looked_at))
    for path, why in [(file.path, file.found.error) for file in failed]:
        note(f"failed: {printable(str(path))}: {why.message} ({why.reason})" if why else "")
    if html is not None:
        from lensmesh_cli import folders
        from lensmesh_cli.match.page import write_page

        write_page(html, known, [*folders.known(target), *(images_from or [])])
    if failed:
        raise typer.Exit(int(Exit.FAILED))
    if any(file.found.verdict is not MatchVerdict.MATCH for file in looked_at):
        raise typer.Exit(int(Exit.INCOMPLETE))
