"""The way of lensmesh to match: images ingested into a mesh, and MatchImages asked through its Router."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from bench.match.answers import Answer, Query
from lensmesh_client import Client, IngestItem, MatchResult, MatchVerdict, Search

COLLECTION: Final = "matching"
NAME: Final = "lensmesh"
_AT_ONCE: Final = 32


class MeshMatcher:
    """A collection of a mesh whose items are the entries."""

    def __init__(self, client: Client, entries: Sequence[Path]) -> None:
        self._client = client
        self._entries = entries
        self._numbers = {path.stem: number for number, path in enumerate(entries)}

    async def fill(self, begin: int, end: int, step: Callable[[], None]) -> None:
        """Ingest some of the entries with hashes and local features. Call `step` for each."""
        items = (IngestItem(path, id=path.stem) for path in self._entries[begin:end])
        async for result in self._client.ingest_many(
            items, collection=COLLECTION, captions="none", near_duplicates="store", local_features=True
        ):
            if result.error is not None:
                raise result.error
            step()

    async def ask(self, queries: Sequence[Query], step: Callable[[], None]) -> list[Answer]:
        """Match one image after another: their times are those of single calls."""
        answers = []
        for query in queries:
            began = time.perf_counter()
            found = await self._client.match([query.content], collection=COLLECTION)
            answers.append(self._answer(found[0], time.perf_counter() - began))
            step()
        return answers

    async def ask_many(self, queries: Sequence[Query], step: Callable[[], None]) -> list[Answer]:
        """Match many images in few calls. Times are shares of their call's."""
        answers = []
        for some in _parts(queries):
            began = time.perf_counter()
            found = await self._client.match([query.content for query in some], collection=COLLECTION)
            spent = (time.perf_counter() - began) / len(some)
            answers += [self._answer(one, spent) for one in found]
            for _ in some:
                step()
        return answers

    async def nearest(self, queries: Sequence[Query], limit: int) -> list[list[int]]:
        """Return the entries that the vector alone finds, the nearest first."""
        found = []
        for some in _parts(queries):
            searches = [Search(image=query.content, collection=COLLECTION, limit=limit) for query in some]
            for answer in await self._client.search_many(searches):
                if answer.error is not None:
                    raise answer.error
                found.append([self._numbers[hit.id] for hit in answer.hits])
        return found

    def _answer(self, found: MatchResult, seconds: float) -> Answer:
        if found.error is not None:
            raise found.error
        accepted = found.verdict is MatchVerdict.MATCH
        if found.best is None:
            return Answer(None, 0.0, seconds, accepted)
        return Answer(self._numbers[found.best.id], found.best.confidence, seconds, accepted)


def _parts(queries: Sequence[Query]) -> Iterator[Sequence[Query]]:
    return (queries[begin : begin + _AT_ONCE] for begin in range(0, len(queries), _AT_ONCE))
