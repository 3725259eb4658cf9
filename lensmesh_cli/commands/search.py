"""`lensmesh search`."""

from __future__ import annotations

import math
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lensmesh_cli.console import EXIT_CODES, Exit, fail, note, print_json
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
from lensmesh_cli.search.asked import FILES, IMAGE, LIKE, NOT, SAME, TEXT, WORDS, asked_queries, check_groups

if TYPE_CHECKING:
    from lensmesh_client import Client, SearchResult

EPILOG = (
    'Example: lensmesh search "a red circle" --filter year>=2020 --html found.html\n\n'
    'Several queries make one ranking: lensmesh search "a red circle" --image cat.png --not "a blue square" '
    "--weight image=2. A query's name is its option's, with a number from the second on: text (TEXT is the first), "
    "text2, image, same, like, words, not.\n\n"
    'Filters: key=value, key!=value, key>=3, key>3, key<=3, key<3, key=\\["a", "b"], key=* (is there), key=~words '
    "(holds these words), or a Filter of the contract as JSON. Several must all hold.\n\n" + EXIT_CODES
)
SEVERAL = "Several queries"


class FusionChoice(StrEnum):
    """The values of lensmesh_client.FusionMethod, which is imported only when a command runs."""

    RRF = "rrf"
    WEIGHTED = "weighted"


def _check_number(value: float | None) -> float | None:
    """Check that it is one: Python reads "nan" too, and it is within any bounds."""
    if value is not None and math.isnan(value):
        raise typer.BadParameter("nan is no number from 0 to 1")
    return value


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG)(search)


def search(
    text: Annotated[str | None, typer.Argument(help="What the image shows, in words.")] = None,
    texts: Annotated[list[str] | None, typer.Option("--text", metavar="TEXT", help="The same; repeatable.")] = None,
    images: Annotated[
        list[Path] | None, typer.Option("--image", metavar="FILE", help="Images like this one; repeatable.")
    ] = None,
    same: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Images that look the same as this one (encoded again, scaled, with a border), by their perceptual "
            "hashes; repeatable.",
        ),
    ] = None,
    like: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Images like the stored item of this id; repeatable.")
    ] = None,
    words: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WORDS",
            help="Words that the caption holds; those in quotation marks stand side by side, bri* is any word that "
            "begins so. Repeatable.",
        ),
    ] = None,
    words_in: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD",
            help="A metadata field (of type TEXT), or $caption, whose words count instead of the caption's; "
            "repeatable.",
        ),
    ] = None,
    nots: Annotated[
        list[str] | None,
        typer.Option(
            "--not",
            metavar="TEXT",
            help="What the image shall not show: pushes away what these words find; repeatable.",
        ),
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            "--weight",
            metavar="NAME=NUMBER",
            help="What a query counts beside the others: 1 unless given, -1 of --not; below 0 it pushes away. "
            "Repeatable.",
            rich_help_panel=SEVERAL,
        ),
    ] = None,
    fusion: Annotated[
        FusionChoice | None,
        typer.Option(
            help="Join rankings by ranks (rrf) or by scores (weighted). \\[default: rrf]",
            show_default=False,
            rich_help_panel=SEVERAL,
        ),
    ] = None,
    rrf_k: Annotated[
        int | None,
        typer.Option(
            help="The k of rrf: the larger, the less the first ranks differ. \\[default: 60]",
            min=1,
            max=10_000,
            show_default=False,
            rich_help_panel=SEVERAL,
        ),
    ] = None,
    partial: Annotated[
        bool,
        typer.Option("--partial", help="Leave out queries that cannot be answered just now.", rich_help_panel=SEVERAL),
    ] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", help="Most hits.", min=1)] = 10,
    filters: Annotated[
        list[str] | None, typer.Option("--filter", "-f", metavar="CONDITION", help="A condition, repeatable.")
    ] = None,
    group_by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD",
            help="One hit for each value of this metadata field ($content_digest for copies); repeated, for each "
            "combination of values.",
        ),
    ] = None,
    group_size: Annotated[
        int | None,
        typer.Option(help="So many hits for each value instead. \\[default: 1]", min=1, max=100, show_default=False),
    ] = None,
    diversity: Annotated[
        float | None,
        typer.Option(
            help="How much hits shall differ from one another: from 0, not at all, to 1, as much as they can.",
            min=0,
            max=1,
            callback=_check_number,
        ),
    ] = None,
    min_score: Annotated[
        float | None,
        typer.Option(help="Leave out hits below this score: cosine similarity, or of several queries the fused one."),
    ] = None,
    min_relevance: Annotated[
        float | None,
        typer.Option(
            help="Leave out hits below this relevance, 0 to 1, which lensmesh calibrate makes known.",
            min=0,
            max=1,
            callback=_check_number,
        ),
    ] = None,
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
            metavar="FOLDER",
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
    """Find images by words, by an image, by a stored item, or by several of these at once.

    Scores of one query are cosine similarities.
    """
    given = {
        TEXT: [*([text] if text is not None else []), *(texts or [])],
        IMAGE: images,
        LIKE: like,
        WORDS: words,
        SAME: same,
        NOT: nots,
    }
    queries = asked_queries(given, weights or [])
    check_groups(group_by or [], group_size)
    if words_in and not words:
        fail("--words-in says where --words are looked for: give these as well", Exit.USAGE)
    if space and all(query.kind == WORDS for query in queries):
        fail("--space says where vectors are compared, and --words lie in none: leave it out", Exit.USAGE)
    if rrf_k is not None and fusion is FusionChoice.WEIGHTED:
        fail("--rrf-k is of --fusion rrf: weighted has no k", Exit.USAGE)
    from lensmesh_cli import folders
    from lensmesh_cli.reading import read_named
    from lensmesh_cli.search.show import as_json, show
    from lensmesh_client import GroupBy, LensmeshError, parse_filter

    try:
        chosen = parse_filter(filters) if filters else None
    except LensmeshError as error:
        fail(error.message, Exit.USAGE)
    if html is not None:
        check_writable(html, "--html")
    connect = Connect(target, ca_file, certificate_file, key_file, timeout)
    contents: dict[str, bytes] = {}

    async def work(client: Client) -> SearchResult:
        for query in queries:
            if query.kind in FILES:
                contents[query.name] = await read_named(client, Path(query.value), f"--{query.kind}")
        found = await client.search(
            queries=[query.for_client(contents.get(query.name), words_in or []) for query in queries],
            fusion=fusion,
            rrf_k=rrf_k or 0,
            partial=partial,
            limit=limit,
            filter=chosen,
            group_by=GroupBy(group_by, group_size or 1) if group_by else None,
            diversity=diversity,
            min_score=min_score,
            min_relevance=min_relevance,
            exact=exact,
            collection=collection,
            space=space,
        )
        if chosen is not None and not found.hits:
            from lensmesh_cli.search.unknown_fields import name_unknown_fields

            await name_unknown_fields(connect, collection, chosen)
        return found

    found = connect.run(work)
    if json_output:
        traced = {"trace_id": found.trace_id, "trace": _address(jaeger, found.trace_id)}
        print_json(as_json(queries, found) | (traced if trace else {}))
    else:
        show(queries, found, grouped=bool(group_by))
    if trace and not json_output:
        note(
            f"trace: {_address(jaeger, found.trace_id)}"
            if found.trace_id
            else "no trace was kept of this search: the router sends none, or its sampler left this one out"
        )
    if html is not None:
        from lensmesh_cli.search.page import write_page

        allowed = [*folders.known(target), *(images_from or [])]
        write_page(html, queries, contents, found, allowed, group_by=group_by or ())


def _address(jaeger: str, trace_id: str) -> str:
    return f"{jaeger.rstrip('/')}/trace/{trace_id}" if trace_id else ""
