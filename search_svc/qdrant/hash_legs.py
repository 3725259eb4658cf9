"""Search of Qdrant by perceptual hashes: candidates by the payload of their bands, of which all are compared here."""

from collections.abc import Sequence
from typing import Any

from qdrant_client import AsyncQdrantClient, models

from search_svc.candidates import FoundItem
from search_svc.hashes import MAX_DISTANCE, bands_near, distances, score_of
from search_svc.legs import HashLeg
from search_svc.model import Collection
from search_svc.qdrant.layout import HASH_BANDS, point_id
from search_svc.qdrant.points import hash_of
from search_svc.qdrant.reading import PIECE

_PAYLOAD = ["id", "hash"]
# Candidates come in pages of so many: what is read of each is small.
_PAGE = 1_000


class HashSearch:
    """Search of one leg.

    Args:
        condition: which items may be found; None: all.
    """

    def __init__(
        self, client: AsyncQdrantClient, collection: Collection, leg: HashLeg, condition: models.Filter | None
    ) -> None:
        self._client = client
        self._key = collection.key
        self._leg = leg
        self._condition = condition

    async def find(self, depth: int) -> tuple[list[FoundItem], bool]:
        """Return the nearest `depth` items, and False: all are compared that can be near."""
        found: list[FoundItem] = []
        if not self._leg.hashes:
            return found, False
        bands = models.FieldCondition(key=HASH_BANDS, match=models.MatchAny(any=bands_near(self._leg.hashes)))
        must: list[models.Condition] = [bands] if self._condition is None else [bands, self._condition]
        offset: Any = None
        while True:
            records, offset = await self._client.scroll(
                self._key,
                scroll_filter=models.Filter(must=must),
                limit=_PAGE,
                offset=offset,
                with_payload=_PAYLOAD,
            )
            found += self._near(records)
            if offset is None:
                return sorted(found, key=lambda each: each.order)[:depth], False

    async def among(self, ids: Sequence[str]) -> list[FoundItem]:
        """Return those of these items that are near."""
        found: list[FoundItem] = []
        for begin in range(0, len(ids), PIECE):
            points: list[models.ExtendedPointId] = [point_id(item_id) for item_id in ids[begin : begin + PIECE]]
            found += self._near(await self._client.retrieve(self._key, points, with_payload=_PAYLOAD))
        return found

    def _near(self, records: Sequence[models.Record]) -> list[FoundItem]:
        told = [(record.payload["id"], hash_of(record.payload)) for record in records if record.payload]
        stored = [(item_id, kept.all) for item_id, kept in told if kept is not None and kept.all]
        if not stored or not self._leg.hashes:
            return []
        bits = distances(self._leg.hashes, [hashes for _, hashes in stored])
        return [
            FoundItem(0, item_id, score_of(int(distance)))
            for (item_id, _), distance in zip(stored, bits, strict=True)
            if distance <= MAX_DISTANCE
        ]
