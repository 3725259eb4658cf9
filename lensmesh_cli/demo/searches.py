"""The demo's kinds of search, each printed as a table and put on the page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lensmesh_cli.cards import ShownQuery
from lensmesh_cli.demo.samples import DemoImage, redrawn
from lensmesh_cli.page import Section

if TYPE_CHECKING:
    from lensmesh_client import Client, Hit, IngestResult

SHOWN = 6
SMALLEST_PX = 300


class Searches:
    """The searches over the images that were just stored."""

    def __init__(
        self,
        client: Client,
        collection: str,
        samples: Sequence[DemoImage],
        results: Sequence[IngestResult],
        folder: Path,
    ) -> None:
        self._client = client
        self._collection = collection
        self._folder = folder
        self._stored = [result for result in results if result.ok]
        self._samples = {result.id: samples[result.index] for result in self._stored}

    def image_of(self, hit: Hit) -> Path | None:
        """Return the hit's file."""
        sample = self._samples.get(hit.id)
        return None if sample is None else sample.path

    async def sections(self) -> AsyncIterator[Section]:
        """Search by text, by image, by a stored item, by several of these, with a filter and in groups.

        Yield a section of the page for each.
        """
        if not self._stored:
            return
        chosen = self._chosen()
        for result, title in zip(chosen[:2], ("by text", "by text, said another way"), strict=False):
            words = self._words(result, plain=title == "by text")
            if words:
                yield await self._by_text(title, words, result)
        yield await self._by_image(chosen[-1])
        yield await self._fused(chosen[-1])
        yield await self._more_like_this(chosen[0])
        yield await self._filtered(chosen[0])
        yield await self._grouped(chosen[-1])

    def _chosen(self) -> list[IngestResult]:
        """Choose some items far apart. Scenes of two groups come first, because they have more to describe."""
        facts = {result.id: self._samples[result.id].facts for result in self._stored}
        rich = [result for result in self._stored if (known := facts[result.id]) and known.second] or self._stored
        step = max(len(rich) // 3, 1)
        return rich[::step][:3]

    def _known(self, result: IngestResult) -> bool:
        return self._samples[result.id].facts is not None

    def _words(self, result: IngestResult, *, plain: bool) -> str:
        sample = self._samples[result.id]
        if sample.facts is None:
            # Of one's own images only the captioner's word is known.
            return (result.caption.text if result.caption else "") if plain else ""
        if plain:
            return sample.words
        import numpy as np

        from lensmesh_shapes.captions import sample_wording

        return sample_wording(sample.facts.mirrored(), np.random.default_rng(3))

    def _same_as(self, result: IngestResult) -> Callable[[Hit], bool | None] | None:
        if not self._known(result):
            return None
        # The rest is near, not wrong: only the right one is marked.
        return lambda hit: True if hit.id == result.id else None

    async def _by_text(self, title: str, words: str, result: IngestResult) -> Section:
        found = await self._client.search(words, collection=self._collection, limit=SHOWN)
        return Section(f"“{words}”", found.hits, f"search {title}", verdict=self._same_as(result))

    async def _by_image(self, result: IngestResult) -> Section:
        asked = redrawn(self._samples[result.id], self._folder)
        found = await self._client.search(image=asked, collection=self._collection, limit=SHOWN)
        note = "search by image"
        if self._known(result):
            note += f": another drawing of {self._samples[result.id].words}, never stored"
        return Section("like this image", found.hits, note, image=asked, verdict=self._same_as(result))

    async def _more_like_this(self, result: IngestResult) -> Section:
        sample = self._samples[result.id]
        found = await self._client.search(item_id=result.id, collection=self._collection, limit=SHOWN)
        return Section(
            "more like this", found.hits, f"nearest to the stored item {sample.path.name}", image=sample.path
        )

    async def _fused(self, result: IngestResult) -> Section:
        """Search by an image, by a text and by words of captions at once, as far as there are words."""
        from lensmesh_client import Query

        asked = redrawn(self._samples[result.id], self._folder)
        queries = [Query(image=asked, name="image")]
        shown = [ShownQuery("image", asked.name, image=asked)]
        for name, words in (("text", self._words(result, plain=False)), ("words", self._words(result, plain=True))):
            if words:
                queries.append(Query(words, name=name) if name == "text" else Query(words=words, name=name))
                shown.append(ShownQuery(name, f"“{words}”"))
        found = await self._client.search(queries=queries, collection=self._collection, limit=SHOWN)
        note = "search by several queries at once: what most of them find comes first. Bars: each query's own score"
        return Section("several queries, one ranking", found.hits, note, verdict=self._same_as(result), queries=shown)

    async def _grouped(self, result: IngestResult) -> Section:
        """Search for one hit for each combination of shapes, or for each folder of the user's own images."""
        known = self._known(result)
        found = await self._client.search(
            item_id=result.id, collection=self._collection, group_by="shapes" if known else "folder", limit=SHOWN
        )
        note = "search in groups: the best one " + ("with each combination of shapes" if known else "of each folder")
        sample = self._samples[result.id]
        return Section("more like this, no two alike", found.hits, note, image=sample.path, groups=found.groups)

    async def _filtered(self, result: IngestResult) -> Section:
        if not self._known(result):
            return await self._filtered_own(result)
        # The words of an image that passes the filter: what is nearest without it may not.
        passing = (one for one in self._stored if self._passes(self._samples[one.id]))
        result = next(passing, result)
        words, conditions = self._samples[result.id].words, ["format=png", f"side_px>={SMALLEST_PX}"]
        found = await self._client.search(words, collection=self._collection, filter=conditions, limit=SHOWN)
        title = f"“{words}” where {' and '.join(conditions)}"
        return Section(title, found.hits, "search with a filter", verdict=self._same_as(result))

    async def _filtered_own(self, result: IngestResult) -> Section:
        """Search with a filter among the user's own images.

        They have no known words but the captioner's, and no metadata but the file's.
        """
        sample = self._samples[result.id]
        words = result.caption.text if result.caption else ""
        condition = f"format={sample.metadata['format']}"
        found = await self._client.search(
            words or None,
            item_id=None if words else result.id,
            collection=self._collection,
            filter=condition,
            limit=SHOWN,
        )
        title = f"“{words}”" if words else f"like {sample.path.name}"
        return Section(f"{title} where {condition}", found.hits, "search with a filter")

    @staticmethod
    def _passes(sample: DemoImage) -> bool:
        side = sample.metadata["side_px"]
        return sample.metadata["format"] == "png" and isinstance(side, int) and side >= SMALLEST_PX
