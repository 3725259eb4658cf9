"""`lensmesh calibrate`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lensmesh_cli.console import EXIT_CODES, Exit, fail, note, out, print_json
from lensmesh_cli.options import (
    DEFAULT_TARGET,
    CaFile,
    CertificateFile,
    Collection,
    CollectionArgument,
    Connect,
    Json,
    KeyFile,
    Target,
    Timeout,
    one_collection,
)
from lensmesh_cli.printable import printable

if TYPE_CHECKING:
    from rich.table import Table

    from lensmesh_client import Calibration, Client, Embedding

EPILOG = (
    "Example: lensmesh calibrate --collection photos; lensmesh search a dog --collection photos --min-relevance 0.5\n\n"
    "Searches by texts need items with captions to be measured with, 20 at least. Calibrate again when the collection "
    "has grown to several times its size, or shows other things.\n\n" + EXIT_CODES
)
# As StartCalibrateRequest.texts of the contract.
LEAST_TEXTS, MOST_TEXTS = 20, 256
# Items that are looked at for each caption that is wanted.
_LOOKED_AT = 20


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG)(calibrate)


def calibrate(
    named: CollectionArgument = "",
    collection: Collection = "",
    space: Annotated[str, typer.Option(help="The collection's space to measure; empty: its first.")] = "",
    texts: Annotated[
        int,
        typer.Option(
            help="Captions of stored items to measure with, 0 for searches by images alone.", min=0, max=MOST_TEXTS
        ),
    ] = 200,
    json_output: Json = False,
    target: Target = DEFAULT_TARGET,
    ca_file: CaFile = "",
    certificate_file: CertificateFile = "",
    key_file: KeyFile = "",
    timeout: Timeout = 60.0,
) -> None:
    """Measure what scores mean in a collection: then hits say how relevant they are, from 0 to 1."""
    collection = one_collection(named, collection)
    if 0 < texts < LEAST_TEXTS:
        fail(f"--texts is {texts}: use {LEAST_TEXTS} to {MOST_TEXTS}, or 0 for none", Exit.USAGE)

    async def work(client: Client) -> list[Calibration]:
        described = await client.collections.get(collection)
        chosen = next((each for each in described.spaces if space in ("", each.name)), None)
        if chosen is None:
            fail(f"the collection {described.name} has no space {printable(space)}", Exit.USAGE)
        probes = await captions_of(client, described.name, chosen.space.id, texts)
        job = await client.jobs.start_calibrate(probes, collection=described.name, space=chosen.name)
        done = await client.jobs.wait(job.id)
        measured: Any = done.result.get("calibrations", [])
        return list(measured)

    measured = Connect(target, ca_file, certificate_file, key_file, timeout).run(work)
    if json_output:
        print_json({"calibrations": [as_json(each) for each in measured]})
    else:
        out.print(table(measured))


async def captions_of(client: Client, collection: str, space_id: str, count: int) -> dict[str, Embedding]:
    """Return vectors of captions by the ids of their items; none where there are too few, or no model for texts."""
    from lensmesh_client import Embedding, LensmeshError, Reason

    # One item of each caption: what many items have in common tells little. Others fill up where captions are few.
    captions: dict[str, str] = {}
    repeated: dict[str, str] = {}
    known: set[str] = set()
    if count:
        looked_at = 0
        # Ids are digests unless somebody named the items, so that the first are as good as any.
        async for item in client.items.list(collection=collection, filter="$caption=*"):
            text = item.caption.text.strip() if item.caption is not None else ""
            if text:
                same = " ".join(text.casefold().rstrip(".").split())
                (repeated if same in known else captions)[item.id] = text
                known.add(same)
            looked_at += 1
            if len(captions) == count or looked_at == _LOOKED_AT * count:
                break
        for item_id in list(repeated)[: max(0, LEAST_TEXTS - len(captions))]:
            captions[item_id] = repeated[item_id]
        if len(captions) < LEAST_TEXTS:
            note(f"{len(captions)} items have a caption, and {LEAST_TEXTS} are needed: searches by texts are left out")
            return {}
    if not captions:
        return {}
    try:
        encoded = await client.embed(texts=list(captions.values()), space_id=space_id)
    except LensmeshError as error:
        if error.reason is not Reason.SPACE_NOT_SERVED:
            raise
        note(f"searches by texts are left out: {printable(error.message)}")
        return {}
    return {
        item_id: Embedding(encoded.vectors[i], encoded.space_id)
        for i, item_id in enumerate(captions)
        if i not in encoded.errors
    }


def table(measured: list[Calibration]) -> Table:
    """Return a table with a row for each kind of query, and what its relevances mean as cosines."""
    from rich.table import Table

    rows = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("queries by", "unrelated: half below", "90 %", "99 %", "99.9 %", "matching: half above", "pairs"):
        rows.add_column(name, justify="left" if name == "queries by" else "right")
    for each in measured:
        figures = (each.median, each.p90, each.p99, each.p999, each.match_median)
        rows.add_row(each.modality.value, *(f"{figure:.3f}" for figure in figures), f"{each.pair_count:,}")
    return rows


def as_json(calibration: Calibration) -> dict[str, object]:
    """Return a calibration for programs."""
    return {
        "modality": calibration.modality.value,
        "median": calibration.median,
        "p90": calibration.p90,
        "p99": calibration.p99,
        "p999": calibration.p999,
        "match_median": calibration.match_median,
        "pair_count": calibration.pair_count,
        "measure_time": calibration.measure_time.isoformat(),
    }
