"""`lensmesh import`: images as another system keeps them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lensmesh_cli.again import command_line
from lensmesh_cli.commands.ingest import CaptionChoice
from lensmesh_cli.console import EXIT_CODES, Exit, SafeConsole, fail, note, out, print_json
from lensmesh_cli.disk import DEFAULT_SECONDS
from lensmesh_cli.options import (
    DEFAULT_TARGET,
    CaFile,
    CertificateFile,
    Connect,
    Json,
    KeyFile,
    Target,
    Timeout,
    check_seconds,
)
from lensmesh_cli.printable import printable

if TYPE_CHECKING:
    from lensmesh_cli.ingest.arthur import ArthurWalk
    from lensmesh_client import Client

EPILOG = (
    "Example: lensmesh import --arthur ~/artworks --dry-run\n\n"
    "A run that broke off goes on when the same command is given again. docs/compatible.md tells how images are "
    "named.\n\n" + EXIT_CODES
)
NOT_AGAIN = ("fresh", "json_output", "dry_run")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("import", epilog=EPILOG)(import_images)


def import_images(
    context: typer.Context,
    arthur: Annotated[
        Path | None,
        typer.Option(
            "--arthur",
            help="Folder of Arthur image recognition: artist/entry/view.jpg. A file elsewhere is told, and left out.",
            metavar="FOLDER",
        ),
    ] = None,
    collection: Annotated[
        str, typer.Option("--collection", help="Collection; one that is not there is made, with indexes of the names.")
    ] = "arthur",
    captions: Annotated[
        CaptionChoice, typer.Option(help="none: matching needs none; best-effort, required: as lensmesh ingest.")
    ] = CaptionChoice.NONE,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what would be imported; read and send nothing.")
    ] = False,
    exclude: Annotated[
        list[str] | None,
        typer.Option(help="Pattern (*.gif, thumbs, 2019/*) of names or paths to leave out; repeatable."),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Enter folders that links lead to.")] = False,
    file_timeout: Annotated[
        float, typer.Option(help="Seconds that the disk may take for one file.", min=0.1, callback=check_seconds)
    ] = DEFAULT_SECONDS,
    journal: Annotated[
        Path | None, typer.Option(help="Where to remember what is stored; by default in the user's state folder.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Send everything, whatever the journal says.")] = False,
    json_output: Json = False,
    target: Target = DEFAULT_TARGET,
    ca_file: CaFile = "",
    certificate_file: CertificateFile = "",
    key_file: KeyFile = "",
    timeout: Timeout = 60.0,
) -> None:
    """Make the images of another system findable, with the names that they have there."""
    from lensmesh_cli.disk import Disk
    from lensmesh_cli.ingest.arthur import ArthurWalk
    from lensmesh_cli.ingest.metadata import Metadata
    from lensmesh_cli.ingest.report import Report
    from lensmesh_cli.ingest.run import FolderIngest
    from lensmesh_cli.ingest.start import check_any_there, open_journal, places_of
    from lensmesh_cli.ingest.stored import Stored
    from lensmesh_cli.progress import Bar
    from lensmesh_client.arthur import find_or_make_collection

    if arthur is None:
        fail("name the folder to import: lensmesh import --arthur FOLDER", Exit.USAGE)
    connect = Connect(target, ca_file, certificate_file, key_file, timeout)
    options: dict[str, Any] = {
        "collection": collection,
        "captions": captions.value,
        "metadata": "merge",
        # Hashes are kept: copies are recognised by them.
        "near_duplicates": "store",
    }
    with Disk(file_timeout) as disk:
        check_any_there([arthur], disk)
        if not disk.run(arthur.is_dir):
            fail(f"--arthur: {printable(str(arthur))} is no folder", Exit.USAGE)
        walk = ArthurWalk(arthur, disk, follow=follow, exclude=exclude or ())
        if dry_run:
            _say_plan(walk, collection, json_output=json_output)
            return
        places = places_of([arthur], disk, target)
        with open_journal(journal, target, collection, places, fresh=fresh) as kept:
            run = FolderIngest(walk, disk, walk.metadata, kept, options, walk.item_id)

            async def work(client: Client) -> None:
                connection = shown.connection()
                try:
                    await find_or_make_collection(connection, collection)
                    await run.ingest(client, Stored(connection, collection), bar)
                finally:
                    await connection.close()

            try:
                with Bar(SafeConsole(stderr=True, quiet=json_output), "import", 0) as bar:
                    shown = dataclasses.replace(connect, say=bar.say)
                    shown.run(work)
            except BaseException:
                if run.counts.stored:
                    note(f"{run.counts.stored} images are stored; the same command goes on from there")
                raise
            if run.complete:
                kept.finished()
    report = Report(run.counts, walk, Metadata(None), command_line(context, NOT_AGAIN))
    names = {"collection": collection, "artists": len(walk.artists), "entries": len(walk.entries)}
    if json_output:
        print_json(report.as_json() | names)
    else:
        report.say()
        note(f"{names['artists']} artists and {names['entries']} entries in the collection {collection}")
    if report.code:
        raise typer.Exit(int(report.code))


def _say_plan(walk: ArthurWalk, collection: str, *, json_output: bool) -> None:
    """Say what an import would do. End the command as an import would where some files are not taken."""
    from lensmesh_cli.ingest.report import say_failures
    from lensmesh_cli.reading import unreadable
    from lensmesh_cli.sources import Problem, say_passed_over

    left = [unreadable(each) for each in walk if isinstance(each, Problem)]
    if json_output:
        print_json(
            {
                "collection": collection,
                "images": walk.images,
                "artists": len(walk.artists),
                "entries": len(walk.entries),
                "errors": [{"path": str(one.path), "reason": one.reason, "message": one.message} for one in left],
            }
        )
    else:
        out.print(
            f"{walk.images} images of {len(walk.entries)} entries of {len(walk.artists)} artists would go into the "
            f"collection {collection}",
            highlight=False,
        )
        say_passed_over(walk, "--follow enters them")
        say_failures(left)
    if left:
        raise typer.Exit(int(Exit.FAILED))
