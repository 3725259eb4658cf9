"""`lensmesh up`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lensmesh_chassis.contract import PORTS
from lensmesh_cli.console import EXIT_CODES, Exit, fail, note
from lensmesh_cli.options import check_platform, check_writable

EPILOG = (
    "Example: lensmesh up --model ViT-B-32/laion2b_s34b_b79k --caption-model Salesforce/blip-image-captioning-base\n\n"
    "Every other setting of a service is an environment variable: see docs/settings.md.\n\n" + EXIT_CODES
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG)(up)


def up(
    data: Annotated[
        Path, typer.Option(help="Folder of the database and the logs.", envvar="LENSMESH_DATA", file_okay=False)
    ] = Path("lensmesh-data"),
    host: Annotated[
        str, typer.Option(help="Where the router and the page listen. 0.0.0.0: for other machines.")
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(help="The router's port; encoder, captioner, search and the page take the next four.", max=65531),
    ] = PORTS["router"],
    free_ports: Annotated[bool, typer.Option("--free-ports", help="Let the system choose all of them.")] = False,
    model: Annotated[
        str, typer.Option(help="The encoder's model: auto, shapes, mock, ARCH/TAG, hf-hub:ORG/NAME, local-dir:/PATH.")
    ] = "",
    encoders: Annotated[
        int,
        typer.Option(
            help="How many processes of the encoder run, each with its own copy of the model on the same device: for a "
            "device that is faster than one process can feed it (docs/backends.md).",
            min=1,
            max=64,
        ),
    ] = 1,
    caption_model: Annotated[
        str, typer.Option(help="The captioner's model: auto, shapes, mock, ORG/NAME, local-dir:/PATH.")
    ] = "",
    mock: Annotated[bool, typer.Option("--mock", help="No models: made-up answers, at once, without torch.")] = False,
    store_url: Annotated[
        str,
        typer.Option(
            envvar="LENSMESH_SEARCH_STORE_URL",
            help="A store of your own, not an embedded PostgreSQL: postgresql://..., qdrant://... or "
            "qdrant+local:FOLDER.",
        ),
    ] = "",
    sidecars: Annotated[
        bool,
        typer.Option(
            "--sidecars",
            help="An Envoy beside each service: mutual TLS between them and with callers. Ports: the services' "
            "plus 1000 (calls) and plus 2000 (from the router).",
        ),
    ] = False,
    thumbnails: Annotated[
        bool,
        typer.Option(
            "--thumbnails/--no-thumbnails",
            help="Keep a thumbnail of each image in the data folder. LENSMESH_ROUTER_MEDIA_URL names another place.",
        ),
    ] = True,
    jaeger: Annotated[
        bool, typer.Option("--jaeger", help="Start a Jaeger as well, and send it the traces of every call.")
    ] = False,
    jaeger_binary: Annotated[
        Path | None,
        typer.Option(envvar="LENSMESH_JAEGER_BINARY", help="Jaeger's program, where `jaeger` is not on the path."),
    ] = None,
    http: Annotated[
        bool, typer.Option("--http/--no-http", help="Serve the page as well, and the mesh by HTTP.")
    ] = True,
    ready_file: Annotated[
        Path | None, typer.Option(help="Write the addresses here, as JSON, once the mesh serves.", dir_okay=False)
    ] = None,
) -> None:
    """Run a whole mesh on this machine: five services and a PostgreSQL, kept running until Ctrl-C."""
    check_platform("up")
    if mock and (model or caption_model):
        fail("--mock and --model or --caption-model exclude each other", Exit.USAGE)
    from lensmesh_cli.local import draft_of, run_until_signal
    from lensmesh_cli.parts import check_parts, missing_for_http
    from lensmesh_local.jaeger import HOW_TO_GET_ONE, find_jaeger
    from lensmesh_local.sidecars.model import EGRESS
    from lensmesh_local.supervisor import PORT_OFFSETS, MeshOptions

    if sidecars and encoders > 1:
        fail("--sidecars has one Envoy before one encoder: leave out --encoders", Exit.USAGE)
    missing = check_parts(mock=mock, store_url=store_url, sidecars=sidecars)
    highest = EGRESS + max(PORT_OFFSETS[name] for name in PORTS)
    if sidecars and port + highest > 65535 and not free_ports:
        fail(
            f"--sidecars needs ports up to {highest} above --port: choose a lower one",
            Exit.USAGE,
        )
    if missing:
        fail(missing, Exit.FAILED)
    if ready_file is not None:
        # Beside it, as it is written: whoever waits for the file must not see it yet.
        check_writable(draft_of(ready_file), "--ready-file")
    tracer = find_jaeger(jaeger_binary) if jaeger else None
    if jaeger and tracer is None:
        fail(f"{jaeger_binary} is no program" if jaeger_binary else HOW_TO_GET_ONE, Exit.FAILED)
    if http and (without := missing_for_http()):
        note(f"the mesh starts without its page: {without}")
        http = False
    options = MeshOptions(
        data=data,
        host=host,
        port=0 if free_ports else port,
        model="mock" if mock else model,
        encoders=encoders,
        caption_model="mock" if mock else caption_model,
        store_url=store_url,
        sidecars=sidecars,
        thumbnails=thumbnails,
        jaeger=tracer,
        http=http,
    )
    note("starting the mesh; Ctrl-C ends it")
    raise typer.Exit(int(run_until_signal(options, ready_file)))
