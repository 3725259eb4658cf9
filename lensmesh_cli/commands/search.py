"""`lensmesh search`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lensmesh_cli.console import EXIT_CODES, Exit, fail, note, out, print_json
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
    check_writable,
)
from lensmesh_cli.printable import printable

if TYPE_CHECKING:
    from lensmesh.search.v1 import search_pb2
    from lensmesh_client import Client, Hit, SearchResult

EPILOG = (
    'Example: lensmesh search "a red circle" --filter year>=2020 --html found.html\n\n'
    'Filters: key=value, key!=value, key>=3, key>3, key<=3, key<3, key=\\["a", "b"], key=* (is there), or a Filter of '
    "the contract as JSON. Several must all hold.\n\n" + EXIT_CODES
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG)(search)


def search(
    text: Annotated[str | None, typer.Argument(help="What the image shows, in words.")] = None,
    image: Annotated[Path | None, typer.Option(help="Images like this one.")] = None,
    like: Annotated[str | None, typer.Option(help="Images like the stored item of this id.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", help="Most hits.", min=1)] = 10,
    filters: Annotated[list[str] | None, typer.Option("--filter", "-f", help="A condition, repeatable.")] = None,
    min_score: Annotated[float | None, typer.Option(help="Leave out hits below this cosine similarity.")] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Compare with every item; do not use the index.")] = False,
    collection: Collection = "",
    space: Annotated[str, typer.Option(help="The collection's space to look in; empty: its first.")] = "",
    trace: Annotated[bool, typer.Option("--trace", help="Also say where Jaeger shows its trace.")] = False,
    jaeger: Annotated[
        str, typer.Option(envvar="LENSMESH_JAEGER_URL", help="Address of Jaeger's page.")
    ] = "http://127.0.0.1:16686",
    html: Annotated[Path | None, typer.Option(help="Also write a page with the images.", dir_okay=False)] = None,
    images_from: Annotated[
        list[Path] | None,
        typer.Option(
            help="A folder whose images the page may show, beside those that you ingested from into this mesh; "
            "repeatable.",
            exists=True,
        ),
    ] = None,
    json_output: Json = False,
    target: Target = DEFAULT_TARGET,
    ca_file: CaFile = "",
    certificate_file: CertificateFile = "",
    key_file: KeyFile = "",
    timeout: Timeout = 30.0,
) -> None:
    """Find images by words, by an image, or by a stored item. Scores are cosine similarities."""
    if sum(value is not None for value in (text, image, like)) != 1:
        fail("give exactly one of TEXT, --image and --like", Exit.USAGE)
    from lensmesh_cli import folders, hits
    from lensmesh_cli.reading import read_named
    from lensmesh_client import LensmeshError, parse_filter

    try:
        chosen = parse_filter(filters) if filters else None
    except LensmeshError as error:
        fail(error.message, Exit.USAGE)
    if html is not None:
        check_writable(html, "--html")
    connect = Connect(target, ca_file, certificate_file, key_file, timeout)

    content: bytes | None = None

    async def work(client: Client) -> SearchResult:
        nonlocal content
        if image is not None:
            content = await read_named(client, image, "--image")
        found = await client.search(
            text,
            image=content,
            item_id=like,
            limit=limit,
            filter=chosen,
            min_score=min_score,
            exact=exact,
            collection=collection,
            space=space,
        )
        if chosen is not None and not found.hits:
            await _name_unknown_fields(connect, collection, chosen)
        return found

    found = connect.run(work)
    if json_output:
        print_json(
            {
                "hits": [hits.as_json(hit) for hit in found.hits],
                "encode_us": found.encode_us,
                "store_us": found.store_us,
                **({"trace_id": found.trace_id, "trace": _address(jaeger, found.trace_id)} if trace else {}),
            }
        )
    elif found.hits:
        out.print(hits.table(found.hits))
    else:
        note("nothing found")
    if trace and not json_output:
        note(
            f"trace: {_address(jaeger, found.trace_id)}"
            if found.trace_id
            else "no trace was kept of this search: the router sends none, or its sampler left this one out"
        )
    if html is not None:
        asked = f"“{text}”" if text is not None else f"like {image or like}"
        _write_page(html, asked, content, found.hits, [*folders.known(target), *(images_from or [])])


async def _name_unknown_fields(connect: Connect, collection: str, chosen: search_pb2.Filter) -> None:
    """Say which fields of a filter no item has. A misspelt name finds nothing, and no error tells of it."""
    from lensmesh_cli.ingest.stored import Stored, fields_of
    from lensmesh_client import LensmeshError

    connection = connect.connection()
    try:
        stored = Stored(connection, collection)
        for field in fields_of(chosen):
            if not await stored.any_with(field):
                note(f"no item has a field {printable(field)}: is it spelt right?")
    except LensmeshError:
        # The search itself went well; this was a service.
        pass
    finally:
        await connection.close()


def _write_page(html: Path, asked: str, image: bytes | None, found: Sequence[Hit], allowed: Sequence[Path]) -> None:
    from lensmesh_cli import folders
    from lensmesh_cli.disk import Disk
    from lensmesh_cli.page import ResultPage, Section

    page = ResultPage("lensmesh search", f"{len(found)} images for {asked}")
    with Disk() as disk:
        images = folders.LocalImages(allowed, disk)
        page.add(Section(asked, image=image, hits=found), images.of)
    page.write(html)
    note(f"page: {html}")
    if images.left_out:
        note(
            f"{images.left_out} of its images are not shown: they lie outside the folders that you ingested from; "
            "--images-from FOLDER adds a folder"
        )


def _address(jaeger: str, trace_id: str) -> str:
    return f"{jaeger.rstrip('/')}/trace/{trace_id}" if trace_id else ""
