"""One artist of a collection of Arthur's in figures."""

import asyncio
from typing import Any

from http_svc.compat.arthur_items import ARTIST, ENTRY, ArthurContext, is_missing_collection, names_of, of_artist
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import NotFound

# Images whose neighbours are looked at, and artists that are told.
_SAMPLE, _ARTISTS = 8, 10
_MOST_ENTRIES = 100


class ArtistFigures:
    """Counts of an artist's images, and who has similar ones."""

    def __init__(self, context: ArthurContext) -> None:
        self._context, self._mesh = context, context.mesh

    async def of(self, artist: str) -> dict[str, Any]:
        """Return the figures, all 0 for an artist who has no images. Raises LensmeshError."""
        try:
            counted, flat, similar = await asyncio.gather(
                self._aggregated(artist), self._flat(artist), self._similar(artist)
            )
        except NotFound as error:
            if not is_missing_collection(error):
                raise
            counted, flat, similar = search_pb2.AggregateResponse(), 0, []
        results = {each.name: each for each in counted.results}
        total = counted.item_count
        entries = results.get("entries", search_pb2.AggregationResult())
        by_entry, by_month = _distribution(results)
        shown: dict[str, Any] = {"by_entry": by_entry, "by_month": by_month}
        if more := results.get("by_entry", search_pb2.AggregationResult()).value_counts.other_count:
            shown["other_entries"] = more
        return {
            "artist_id": artist,
            "total_images": total,
            "total_entries": entries.distinct_count,
            # Vectors do not tell how good they are. Those of images of one colour say nothing.
            "average_embedding_quality": round((total - min(flat, total)) / total, 4) if total else 0.0,
            "most_similar_artists": similar,
            "image_distribution": shown,
        }

    async def _aggregated(self, artist: str) -> search_pb2.AggregateResponse:
        by_month = search_pb2.CountsByTime(field="$create_time", interval=search_pb2.TIME_INTERVAL_MONTH)
        asked = search_pb2.AggregateRequest(
            collection=self._context.collection,
            filter=of_artist(artist),
            aggregations=[
                search_pb2.Aggregation(name="entries", distinct_count=search_pb2.DistinctCount(field=ENTRY)),
                search_pb2.Aggregation(
                    name="by_entry", value_counts=search_pb2.ValueCounts(field=ENTRY, limit=_MOST_ENTRIES)
                ),
                search_pb2.Aggregation(name="by_month", counts_by_time=by_month),
            ],
        )
        told: search_pb2.AggregateResponse = await self._mesh.call(self._mesh.search.Aggregate, asked)
        return told

    async def _flat(self, artist: str) -> int:
        """Return how many of the images are of one colour."""
        flat = search_pb2.Filter(condition=search_pb2.Condition(field="$low_content"))
        flat.condition.equals.bool_value = True
        both = search_pb2.Filter(all=search_pb2.FilterList(filters=[of_artist(artist), flat]))
        asked = search_pb2.AggregateRequest(
            collection=self._context.collection,
            filter=both,
            aggregations=[search_pb2.Aggregation(name="entries", distinct_count=search_pb2.DistinctCount(field=ENTRY))],
        )
        return int((await self._mesh.call(self._mesh.search.Aggregate, asked)).item_count)

    async def _similar(self, artist: str) -> list[dict[str, Any]]:
        """Return the artists with the most similar images: of each, the best cosine to one of a sample of these."""
        collection, search = self._context.collection, self._mesh.search
        page = search_pb2.ListItemsRequest(
            collection=collection,
            filter=of_artist(artist),
            page_size=_SAMPLE,
            read=search_pb2.ReadOptions(view=search_pb2.ITEM_VIEW_ID),
        )
        sample = [item.id for item in (await self._mesh.call(search.ListItems, page)).items]
        if not sample:
            return []
        others = of_artist(artist, other=True)
        asked = search_pb2.BatchSearchRequest(
            searches=[
                search_pb2.SearchRequest(
                    collection=collection,
                    legs=[search_pb2.SearchLeg(item_id=item_id)],
                    filter=others,
                    limit=_ARTISTS,
                    group_by=search_pb2.GroupBy(fields=[ARTIST]),
                )
                for item_id in sample
            ]
        )
        best: dict[str, float] = {}
        for result in (await self._mesh.call(search.BatchSearch, asked)).results:
            # An image that went meanwhile, or has no vector, has no neighbours.
            for hit in result.response.hits:
                name = names_of(hit.item).artist
                if name:
                    best[name] = max(best.get(name, -1.0), hit.score)
        ranked = sorted(best.items(), key=lambda each: (-each[1], each[0]))[:_ARTISTS]
        return [{"artist_id": name, "score": round(min(score, 1.0), 4)} for name, score in ranked]


def _distribution(results: dict[str, search_pb2.AggregationResult]) -> tuple[dict[str, int], dict[str, int]]:
    """Return the images by entry, most first, and by month ("2026-12"), in order."""
    nothing = search_pb2.AggregationResult()
    counts = results.get("by_entry", nothing).value_counts.counts
    by_entry = {count.value.string_value: count.count for count in counts}
    buckets = results.get("by_month", nothing).counts_by_time.buckets
    return by_entry, {bucket.start.ToDatetime().strftime("%Y-%m"): bucket.count for bucket in buckets}
