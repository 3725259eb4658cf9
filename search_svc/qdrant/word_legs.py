"""Search of Qdrant by words: their payload chooses the items, and `WordRanking` ranks them here.

A server could rank by itself (sparse vectors, BM25 from 1.20 on), by other numbers than PostgreSQL.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from qdrant_client import AsyncQdrantClient, models

from search_svc.candidates import FoundItem
from search_svc.legs import WordsLeg
from search_svc.model import Collection
from search_svc.qdrant.fields import WordSlot, text_name, word_token
from search_svc.qdrant.layout import point_id
from search_svc.qdrant.predicates import holds
from search_svc.qdrant.reading import PIECE
from search_svc.words.ranking import WordLookup, WordRanking
from search_svc.words.wanting import WantedTerm

MAX_RANKED = 2_000
"""Items that one look ranks: the first of them, where more hold the words."""
_PAYLOAD = ["id", "words"]


class WordSearch:
    """Search of one leg.

    Args:
        condition: which items may be found; None: all.
        enough: items with which the search ends; what comes behind them is not asked for.
    """

    def __init__(
        self,
        client: AsyncQdrantClient,
        collection: Collection,
        leg: WordsLeg,
        condition: models.Filter | None,
        enough: int,
    ) -> None:
        self._enough = enough
        self._client = client
        self._key = collection.key
        self._leg = leg
        self._condition = condition
        self._ranking = WordRanking(leg.terms)

    async def find(self, depth: int) -> tuple[list[FoundItem], bool]:
        """Return the best `depth` items, and whether some were left out that no look ranked."""
        found: list[FoundItem] = []
        is_cut = False
        for lookup in self._ranking.lookups():
            items, more = await self._ranked(lookup)
            found += items[: depth - len(found)]
            is_cut = is_cut or more
            if len(found) >= min(depth, self._enough):
                break
        return found, is_cut

    async def among(self, ids: Sequence[str]) -> list[FoundItem]:
        """Return those of these items that hold any of the words."""
        found: list[FoundItem] = []
        for begin in range(0, len(ids), PIECE):
            points: list[models.ExtendedPointId] = [point_id(item_id) for item_id in ids[begin : begin + PIECE]]
            records = await self._client.retrieve(self._key, points, with_payload=_PAYLOAD, with_vectors=False)
            found += self._scored(records)
        return found

    async def _ranked(self, lookup: WordLookup) -> tuple[list[FoundItem], bool]:
        must: list[models.Condition] = [models.Filter(should=[self._part(part) for part in lookup.parts])]
        if self._condition is not None:
            must.append(self._condition)
        chosen = models.Filter(must=must, must_not=[self._part(part) for part in lookup.but] or None)
        records: list[models.Record] = []
        offset: Any = None
        while len(records) < MAX_RANKED:
            page, offset = await self._client.scroll(
                self._key, scroll_filter=chosen, limit=PIECE, offset=offset, with_payload=_PAYLOAD
            )
            records += page
            if offset is None:
                break
        return sorted(self._scored(records), key=lambda each: each.order), offset is not None

    def _part(self, terms: Sequence[WantedTerm]) -> models.Filter:
        return models.Filter(must=[holds(term, self._leg.texts) for term in terms])

    def _scored(self, records: Sequence[models.Record]) -> Iterator[FoundItem]:
        for record in records:
            payload = record.payload or {}
            words = payload.get("words") or {}
            count = sum(len(text[WordSlot.WORDS.value]) for text in words.values())
            texts = [words[text_name(place)] for place in self._leg.texts if text_name(place) in words]
            score = self._ranking.score(_Held(texts), count)
            if score:
                yield FoundItem(0, payload["id"], float(np.float32(score)))


class _Held:
    """Words that the texts of an item hold, by their payload; see `HeldWords`."""

    def __init__(self, texts: Sequence[Mapping[str, Sequence[str]]]) -> None:
        self._texts = [{slot: frozenset(words) for slot, words in text.items()} for text in texts]

    def has_words(self, term: WantedTerm) -> bool:
        slot, wanted = WordSlot.WORDS, term.words
        if term.is_prefix:
            slot = WordSlot.STARTS
        elif len(term.words) > 1:
            slot, wanted = WordSlot.RUNS, term.runs
        return any(all(word_token(word) in text[slot] for word in wanted) for text in self._texts)

    def has_stem(self, term: WantedTerm) -> bool:
        return any(word_token(stem) in text[WordSlot.WORDS] for stem in term.stems for text in self._texts)
