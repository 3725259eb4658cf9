"""The demo, from the first scene to the last line."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lensmesh_cli.console import Exit, SafeConsole, err, fail, note, out, print_json
from lensmesh_cli.demo.figures import GOOD_ENOUGH, DemoFigures, caption_accuracy, recall_at_1, time_shares
from lensmesh_cli.demo.matches import NOTE, TITLE, keeps_local_features, matches
from lensmesh_cli.demo.samples import DemoImage, draw_scenes, own_images
from lensmesh_cli.demo.searches import Searches
from lensmesh_cli.local import WHAT_MODELS_KNOW, Interrupted, announce, say_page, supervised, with_signals
from lensmesh_cli.page import ResultPage
from lensmesh_local.supervisor import DataFolderError, MeshOptions, StartError, Supervisor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lensmesh_client import Client, IngestItem, IngestResult

COLLECTION = "demo"


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """The options of the command line."""

    images: Path | None
    count: int
    keep: bool
    quiet: bool
    html: Path
    model: str
    caption_model: str
    sidecars: bool = False
    store_url: str = ""
    stays: bool = False
    """The mesh goes on with its page until a signal."""

    @property
    def checked(self) -> bool:
        """True where what is found can be compared with the truth."""
        return self.images is None and self.model == self.caption_model == "shapes"


def run_demo(options: DemoOptions) -> Exit:
    """Run the demo. The exit code tells whether all went well."""
    folder = Path("lensmesh-demo") if options.keep else Path(tempfile.mkdtemp(prefix="lensmesh-demo-"))
    mesh = MeshOptions(
        folder / "data",
        port=0,
        model=options.model,
        caption_model=options.caption_model,
        sidecars=options.sidecars,
        store_url=options.store_url,
        # Who looks around finds the demo's images without naming their collection.
        environment={"LENSMESH_ROUTER_DEFAULT_COLLECTION": COLLECTION},
        http=options.stays,
        thumbnails=True,
    )
    demo = Demo(options, folder)
    told = False

    def tell() -> None:
        nonlocal told
        told = True
        if not options.quiet:
            _verdict(demo.figures, options)
        print_json(demo.figures.line())

    async def show(running: Supervisor) -> None:
        await demo.show(running)
        if options.stays:
            tell()
            say_page(running)
            note("the mesh goes on for as long as you like; Ctrl-C ends it")
            await asyncio.Event().wait()

    async def whole(asked: asyncio.Event, forced: asyncio.Event) -> Exit:
        # Drawing takes as long as the mesh takes to start.
        demo.drawing = asyncio.create_task(asyncio.to_thread(demo.prepare))
        try:
            await supervised(mesh, asked, forced, show)
        except Interrupted:
            if not told:
                return Exit.INTERRUPTED
        return Exit.DONE if demo.figures.good else Exit.FAILED

    try:
        code = with_signals(whole)
    except (StartError, DataFolderError) as error:
        # The folder stays: its logs tell more.
        fail(str(error))
    if options.keep:
        note(f"kept: images in {folder / 'pictures'}; serve them again with: lensmesh up --data {folder / 'data'}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    if code is Exit.INTERRUPTED:
        fail("interrupted", code)
    if not told:
        tell()
        if not options.keep and not options.quiet:
            note("to look around in what was stored, on a page in your browser: lensmesh demo --keep")
    return code


def _verdict(figures: DemoFigures, options: DemoOptions) -> None:
    if "shapes" in (options.model, options.caption_model):
        note(WHAT_MODELS_KNOW)
    if figures.errors:
        note(f"{figures.errors} images failed")
    elif not figures.good:
        note(f"less than {GOOD_ENOUGH:.0%} right: something between the drawing and the answer is broken")


class Demo:
    """A run of the demo: its images, its figures, its page."""

    drawing: asyncio.Task[list[DemoImage]]

    def __init__(self, options: DemoOptions, folder: Path) -> None:
        self._options = options
        self._folder = folder
        self.figures = DemoFigures(html=str(options.html.resolve()))

    def prepare(self) -> list[DemoImage]:
        """Draw the images, or find the user's own."""
        if self._options.images is not None:
            return own_images(self._options.images, self._options.count)
        self._say(f"drawing {self._options.count} scenes, starting the mesh")
        return draw_scenes(self._options.count, self._folder / "pictures")

    def _say(self, message: str) -> None:
        if not self._options.quiet:
            note(message)

    async def show(self, mesh: Supervisor) -> None:
        """Do everything that happens while the mesh runs."""
        from lensmesh_client import Client

        samples = await self.drawing
        async with Client(mesh.router, security=mesh.security, timeout_s=120) as client:
            if not self._options.quiet:
                announce(mesh, await client.status(), hints=False)
            results = await self._ingest(client, samples)
            ids = {result.index: result.id for result in results if result.ok}
            if self._options.checked:
                self.figures.caption_accuracy = caption_accuracy(samples, results)
                recall, search_ms = await recall_at_1(client, samples, ids, COLLECTION)
                self.figures.recall_at_1, self.figures.search_ms = recall, search_ms
            page = self._page()
            searches = Searches(client, COLLECTION, samples, results, self._folder)
            async for section in searches.sections():
                if not self._options.quiet:
                    from lensmesh_cli.hits import table

                    legs = [query.name for query in section.queries]
                    out.print(table(section.hits, f"\n{section.note}: {section.title}", legs, section.groups))
                await asyncio.to_thread(page.add, section, searches.image_of)
            await self._match(client, samples, results, page)
        await asyncio.to_thread(page.write, self._options.html)
        if not self._options.quiet:
            self._print_figures()

    async def _match(
        self, client: Client, samples: list[DemoImage], results: list[IngestResult], page: ResultPage
    ) -> None:
        """Match an image that was photographed again, and a stranger."""
        from lensmesh_cli.match.cards import card, cards
        from lensmesh_cli.match.show import named, table

        found = await matches(client, COLLECTION, samples, results, self._folder)
        if not found:
            return
        if not self._options.quiet:
            out.print(table([named(file) for file in found], f"\n{NOTE}"))
        paths = {result.id: samples[result.index].path for result in results if result.ok}

        def shown() -> str:
            return cards([card(file.path.name, file.path, file.found, lambda it: paths.get(it.id)) for file in found])

        page.add_part(TITLE, NOTE, await asyncio.to_thread(shown))

    async def _ingest(self, client: Client, samples: list[DemoImage]) -> list[IngestResult]:
        from lensmesh_cli.progress import Bar

        def items() -> Iterator[IngestItem]:
            from lensmesh_client import IngestItem

            for sample in samples:
                yield IngestItem(sample.path, metadata=sample.metadata, image_uri=sample.path.resolve().as_uri())

        results = []
        console = SafeConsole(stderr=True, quiet=self._options.quiet)
        with Bar(console, "ingest", len(samples)) as bar:
            stream = client.ingest_many(
                items(),
                collection=COLLECTION,
                local_features=keeps_local_features(),
                on_resume=lambda error, count: bar.say(f"{error.message}; it goes on"),
            )
            async for result in stream:
                results.append(result)
                bar.step(ok=result.ok)
                if result.error is not None:
                    bar.say(f"failed: {samples[result.index].path.name}: {result.error.message}")
            self.figures.seconds = bar.seconds
        self.figures.images = sum(result.ok for result in results)
        self.figures.errors = len(samples) - self.figures.images
        self.figures.parts = time_shares(results)
        return results

    def _print_figures(self) -> None:
        from rich.table import Table

        figures = self.figures
        rows = Table(box=None, show_header=False, pad_edge=False, title="\nwhat came of it", title_justify="left")
        rows.add_column()
        rows.add_column(justify="right", style="bold")
        for value, label in self._values():
            rows.add_row(label, value)
        for name, milliseconds in figures.parts:
            rows.add_row(f"time in {name}, each image", f"{milliseconds:.1f} ms")
        err.print(rows)
        note(f"page: {figures.html}")

    def _values(self) -> list[tuple[str, str]]:
        figures = self.figures
        values = [
            (f"{figures.images}", "images stored, with caption and vector"),
            (f"{figures.images_per_second:.1f}", "images a second"),
        ]
        if figures.recall_at_1 is not None:
            values.append((f"{figures.recall_at_1:.1%}", "found first by their own description"))
        if figures.caption_accuracy is not None:
            values.append((f"{figures.caption_accuracy:.1%}", "captions with every fact right"))
        if figures.search_ms is not None:
            values.append((f"{figures.search_ms:.0f} ms", "a search by text, 16 at a time"))
        values.append((f"{figures.errors}", "errors"))
        return values

    def _page(self) -> ResultPage:
        lead = "Images were streamed in, embedded, captioned and stored, then searched in several ways."
        if self._options.images is None:
            lead = (
                f"{self.figures.images} drawn scenes, as JPEG, PNG and WebP files of mixed sizes, were streamed in, "
                "embedded, captioned and stored, then searched in several ways. A green frame marks the one scene that "
                "was described."
            )
        footer = ""
        if "shapes" in (self._options.model, self._options.caption_model):
            footer = (
                "The bundled models know drawn scenes only. The real ones start with <code>lensmesh up --model "
                "ViT-B-32/laion2b_s34b_b79k --caption-model Salesforce/blip-image-captioning-base</code>."
            )
        return ResultPage(
            "lensmesh demo",
            lead,
            figures=self._values(),
            shares=self.figures.parts,
            shares_note="Milliseconds for each image; a batch's model time is divided among its images. The parts "
            "overlap, and waiting is not work.",
            footer=footer,
            metadata=False,
        )
