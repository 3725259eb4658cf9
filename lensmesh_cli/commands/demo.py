"""`lensmesh demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lensmesh_cli.console import EXIT_CODES, Exit, fail, note
from lensmesh_cli.options import Json, check_platform, check_writable

EPILOG = (
    "Example: lensmesh demo --images ~/Pictures --count 200\n\n"
    "The last line of standard output is JSON: images, seconds, images_per_second, recall_at_1, caption_accuracy, "
    "errors, html.\n\n" + EXIT_CODES
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG)(demo)


def demo(
    images: Annotated[
        Path | None, typer.Option(help="A folder of your own images, instead of drawn scenes.", exists=True)
    ] = None,
    count: Annotated[int, typer.Option(help="How many images.", min=1)] = 500,
    keep: Annotated[
        bool,
        typer.Option(
            "--keep",
            help="Keep images and database in ./lensmesh-demo, and the mesh with its page open until Ctrl-C "
            "(with --json it ends at once).",
        ),
    ] = False,
    json_output: Json = False,
    html: Annotated[Path, typer.Option(help="The page with what was found.", dir_okay=False)] = Path(
        "lensmesh-demo.html"
    ),
    model: Annotated[str, typer.Option(help="The encoder's model, as in `lensmesh up`.")] = "shapes",
    caption_model: Annotated[str, typer.Option(help="The captioner's model.")] = "shapes",
    mock: Annotated[bool, typer.Option("--mock", help="No models: made-up answers, nothing to check.")] = False,
    sidecars: Annotated[
        bool, typer.Option("--sidecars", help="Through an Envoy beside each service, with mutual TLS.")
    ] = False,
    store_url: Annotated[
        str, typer.Option(help="A store of your own, as in `lensmesh up`; the demo's collection stays there.")
    ] = "",
) -> None:
    """Show the main job on this machine: start a mesh, stream images in, find them again, check the answers."""
    check_platform("demo")
    from lensmesh_cli.demo.run import DemoOptions, run_demo
    from lensmesh_cli.parts import check_parts, missing_for_http

    missing = check_parts(mock=mock, store_url=store_url, sidecars=sidecars)
    if missing:
        fail(missing)
    if not html.resolve().parent.is_dir():
        fail(f"there is no folder {html.resolve().parent}", Exit.USAGE)
    names = ("mock", "mock") if mock else (model, caption_model)
    check_writable(html, "--html")
    stays = keep and not json_output
    if stays and (without := missing_for_http()):
        note(f"the demo ends without its page: {without}")
        stays = False
    options = DemoOptions(
        images, count, keep, json_output, html, *names, sidecars=sidecars, store_url=store_url, stays=stays
    )
    raise typer.Exit(int(run_demo(options)))
