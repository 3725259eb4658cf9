"""`lensmesh ingest`."""

from __future__ import annotations

import dataclasses
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lensmesh_cli.again import command_line
from lensmesh_cli.console import EXIT_CODES, Exit, SafeConsole, fail, note, print_json
from lensmesh_cli.disk import DEFAULT_SECONDS
from lensmesh_cli.options import (
    DEFAULT_TARGET,
    CaFile,
    CertificateFile,
    Collection,
    Connect,
    Json,
    KeyFile,
    Target,
    Timeout,
    TransparencyOption,
    check_seconds,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lensmesh_client import Client, Tags

EPILOG = (
    "Example: lensmesh ingest ~/Pictures --metadata about.jsonl --captions none\n\n"
    "A run that broke off goes on when the same command is given again. docs/ingest.md tells what is taken and what is "
    "passed over.\n\n" + EXIT_CODES + " 4 here: all is stored, but some have no caption."
)


NOT_AGAIN = ("fresh", "prune", "yes", "json_output")
"""Parameters that the suggested next command leaves out. It sends files that failed or lack a caption, nothing else."""


NEAR_DISTANCE = 31
"""Bits, as the contract's default."""


class CaptionChoice(StrEnum):
    """The values of lensmesh_client.Captions, which is imported only when the command runs."""

    BEST_EFFORT = "best-effort"
    REQUIRED = "required"
    NONE = "none"


class NearChoice(StrEnum):
    """The values of lensmesh_client.NearAction."""

    STORE = "store"
    MARK = "mark"
    SKIP = "skip"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG)(ingest)


def ingest(
    context: typer.Context,
    paths: Annotated[list[Path], typer.Argument(help="Images, and folders with images.", metavar="PATH")],
    collection: Collection = "",
    metadata: Annotated[
        Path | None,
        typer.Option(help='JSON lines {"path": ..., other keys}: kept with the image of that path or name.'),
    ] = None,
    replace_metadata: Annotated[
        bool,
        typer.Option(
            "--replace-metadata",
            help="Replace stored metadata by --metadata; an image without a line loses it. By default keys are added.",
        ),
    ] = False,
    captions: Annotated[
        CaptionChoice, typer.Option(help="best-effort: store without one if none can be had; required: refuse then.")
    ] = CaptionChoice.BEST_EFFORT,
    tags: Annotated[
        Path | None,
        typer.Option(
            help="File with a label in each line: the labels that fit an image are written into its metadata.",
            metavar="FILE",
        ),
    ] = None,
    tags_template: Annotated[
        list[str] | None,
        typer.Option(help="With --tags: sentence around a label, with {} in its place; repeatable.", metavar="WORDS"),
    ] = None,
    tags_field: Annotated[str, typer.Option(help="With --tags: name of the metadata field.")] = "tags",
    tags_min: Annotated[float, typer.Option(help="With --tags: least probability of a label.", min=0.0, max=1.0)] = 0.1,
    near_duplicates: Annotated[
        NearChoice | None,
        typer.Option(
            help="For images that look the same as stored ones: store them all the same, mark them (with the other's "
            "id as near_duplicate_of in the metadata), or skip them.",
        ),
    ] = None,
    near_distance: Annotated[
        int, typer.Option(help="With --near-duplicates: most bits in which they differ.", min=0, max=31)
    ] = NEAR_DISTANCE,
    transparency: TransparencyOption = None,
    bulk: Annotated[
        bool,
        typer.Option(
            "--bulk",
            help="For many images into a new collection: build its index at the end, in one go. Until then searches "
            "are exact, and slower the more there is.",
        ),
    ] = False,
    local_features: Annotated[
        bool,
        typer.Option(
            "--local-features",
            help="For a new collection: keep local features of its images, some 16 kB each, by which matches are "
            "verified. An existing one decides itself.",
        ),
    ] = False,
    exclude: Annotated[
        list[str] | None,
        typer.Option(help="Pattern (*.gif, thumbs, 2019/*) of names or paths to leave out of folders; repeatable."),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Enter folders that links lead to.")] = False,
    file_timeout: Annotated[
        float, typer.Option(help="Seconds that the disk may take for one file.", min=0.1, callback=check_seconds)
    ] = DEFAULT_SECONDS,
    journal: Annotated[
        Path | None, typer.Option(help="Where to remember what is stored; by default in the user's state folder.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Send everything, whatever the journal says.")] = False,
    prune: Annotated[
        bool,
        typer.Option(
            "--prune",
            help="Then ask, and remove items whose files are gone from these folders, if your ingests wrote them.",
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --prune: remove without asking.")] = False,
    json_output: Json = False,
    target: Target = DEFAULT_TARGET,
    ca_file: CaFile = "",
    certificate_file: CertificateFile = "",
    key_file: KeyFile = "",
    timeout: Timeout = 60.0,
) -> None:
    """Make images findable: stream them in, and remember which are stored."""
    from lensmesh_cli.disk import Disk
    from lensmesh_cli.ingest.index import build_index
    from lensmesh_cli.ingest.metadata import Metadata
    from lensmesh_cli.ingest.prune import remove_gone
    from lensmesh_cli.ingest.report import Report
    from lensmesh_cli.ingest.run import FolderIngest
    from lensmesh_cli.ingest.start import check_any_there, open_journal, places_of
    from lensmesh_cli.ingest.stored import Stored
    from lensmesh_cli.progress import Bar
    from lensmesh_cli.sources import Walk
    from lensmesh_client import NearDuplicates

    connect = Connect(target, ca_file, certificate_file, key_file, timeout)
    asked = _tags(tags, tags_template or (), tags_field, tags_min)
    about = Metadata(metadata)
    options: dict[str, Any] = {
        "collection": collection,
        "captions": captions.value,
        "metadata": "replace" if replace_metadata else "merge",
        "transparency": transparency,
        "deferred_index": bulk,
        "local_features": local_features,
    }
    if asked is not None:
        options["tags"] = asked
    if near_duplicates is not None:
        options["near_duplicates"] = NearDuplicates(near_duplicates.value, near_distance)
    elif near_distance != NEAR_DISTANCE:
        fail("--near-distance is of --near-duplicates: give that too", Exit.USAGE)
    with Disk(file_timeout) as disk:
        check_any_there(paths, disk)
        places = places_of(paths, disk, target)
        walk = Walk(paths, disk, follow=follow, exclude=exclude or ())
        with open_journal(journal, target, collection, places, fresh=fresh) as kept:
            run = FolderIngest(walk, disk, about.of, kept, options)

            async def work(client: Client) -> None:
                connection = shown.connection()
                try:
                    await run.ingest(client, Stored(connection, collection), bar)
                finally:
                    await connection.close()

            try:
                with Bar(SafeConsole(stderr=True, quiet=json_output), "ingest", 0) as bar:
                    shown = dataclasses.replace(connect, say=bar.say)
                    shown.run(work)
                if bulk and run.identity:
                    build_index(connect, collection, SafeConsole(stderr=True, quiet=json_output))
            except BaseException:
                if run.counts.stored:
                    note(f"{run.counts.stored} images are stored; the same command goes on from there")
                raise
            pruned = remove_gone(connect, collection, run, walk, kept, places, disk, yes=yes) if prune else None
            if run.complete:
                kept.finished()
    report = Report(run.counts, walk, about, command_line(context, NOT_AGAIN))
    if json_output:
        print_json(report.as_json() | ({} if pruned is None else {"pruned": pruned}))
    else:
        report.say()
    if report.code:
        raise typer.Exit(int(report.code))


def _tags(file: Path | None, templates: Sequence[str], field: str, least: float) -> Tags | None:
    """Return what `--tags` asks for. End the command where its file is no file of labels, or where it is missing."""
    from lensmesh_cli.labels import read_label_file
    from lensmesh_client import Tags

    if file is not None:
        return Tags(list(read_label_file(file, "--tags")), templates, field, least)
    if templates or field != "tags" or least != 0.1:
        fail("--tags-template, --tags-field and --tags-min say how --tags FILE is used: give it too", Exit.USAGE)
    return None
