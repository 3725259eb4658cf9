"""Inventory-up of what the store has of some images already."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from google.protobuf import struct_pb2

from lensmesh.search.v1 import search_pb2
from router_svc.call_scope import CallScope
from router_svc.ingest.plan import ItemPlan, PlanOptions, StoredItem, Wanted, plan
from router_svc.media.inventory import NOTHING, Lacking
from router_svc.media.media import Media
from router_svc.upstreams.methods import GET_ITEMS, LIST_ITEMS
from router_svc.upstreams.pool import UpstreamPool
from router_svc.upstreams.together import both

# One item of each content is enough; an image stored under thousands of ids is not read to its end.
MAX_PAGES = 4


@dataclass(frozen=True, slots=True)
class LookupResult:
    """Work to be done for one image, and the stored items it takes something from."""

    plan: ItemPlan
    own: search_pb2.Item | None
    """The item of its id, as the plan knows it."""
    donors: Mapping[str, search_pb2.Item]
    """By Item.id, with their vectors and local features: all that the plan names."""
    lacking: Lacking = NOTHING
    """Forms of the image that the media store lacks."""


class Lookup:
    """Asks the store of one collection about batches of images."""

    def __init__(
        self, stores: UpstreamPool, collection: str, options: PlanOptions, scope: CallScope, media: Media
    ) -> None:
        self._stores = stores
        self._collection = collection
        self._options = options
        self._scope = scope
        self._media = media

    async def run(self, batch: Sequence[Wanted]) -> list[LookupResult]:
        """Return one finding per image, in order. Raises what the store raises."""
        digests = {wanted.digest for wanted in batch}
        (own, alike), lacking = await both(
            both(self._get([wanted.id for wanted in batch], search_pb2.ITEM_VIEW_BASIC), self._alike(digests)),
            self._media.lacking(digests),
        )
        plans = [self._plan(wanted, own.get(wanted.id), alike.get(wanted.digest, ())) for wanted in batch]
        ids = sorted({donor for made in plans if not made.unchanged for donor in _donors(made)})
        full = search_pb2.ITEM_VIEW_FULL
        donors = await self._get(ids, full, features=self._options.features) if ids else {}
        return [
            LookupResult(made, own.get(wanted.id), donors, lacking.get(wanted.digest, NOTHING))
            if made.unchanged
            else self._of_donors(wanted, made, own, donors, lacking.get(wanted.digest, NOTHING))
            for wanted, made in zip(batch, plans, strict=True)
        ]

    def _of_donors(
        self,
        wanted: Wanted,
        first: ItemPlan,
        own: Mapping[str, search_pb2.Item],
        donors: Mapping[str, search_pb2.Item],
        lacking: Lacking,
    ) -> LookupResult:
        """Plan again with the items as they came the second time, with their vectors.

        Between the two questions any of them may have been deleted, or replaced by another image under its id: only
        what one answer tells together, the digest and the vectors and the caption, belongs together.
        """
        names = _donors(first)
        mine = (donors if wanted.id in names else own).get(wanted.id)
        others = [donors[name] for name in sorted(names) if name in donors]
        return LookupResult(self._plan(wanted, mine, others), mine, donors, lacking)

    def _plan(self, wanted: Wanted, mine: search_pb2.Item | None, alike: Sequence[search_pb2.Item]) -> ItemPlan:
        others = [stored_item(item) for item in alike if item.id != wanted.id]
        return plan(wanted, self._options, stored_item(mine) if mine is not None else None, others)

    async def _get(
        self, ids: Sequence[str], view: search_pb2.ItemView.ValueType, *, features: bool = False
    ) -> dict[str, search_pb2.Item]:
        request = search_pb2.GetItemsRequest(
            collection=self._collection, ids=ids, read=search_pb2.ReadOptions(view=view, local_features=features)
        )
        answer = await self._stores.call_patiently(GET_ITEMS, request, self._scope)
        return {item.id: item for item in answer.items}

    async def _alike(self, digests: set[bytes]) -> dict[bytes, list[search_pb2.Item]]:
        """Return stored items of these contents, without the vectors' numbers."""
        values = struct_pb2.ListValue(
            values=[struct_pb2.Value(string_value=digest.hex()) for digest in sorted(digests)]
        )
        request = search_pb2.ListItemsRequest(
            collection=self._collection,
            filter=search_pb2.Filter(condition=search_pb2.Condition(field="$content_digest", one_of=values)),
            read=search_pb2.ReadOptions(view=search_pb2.ITEM_VIEW_BASIC),
        )
        found: dict[bytes, list[search_pb2.Item]] = {}
        for _ in range(MAX_PAGES):
            page = await self._stores.call_patiently(LIST_ITEMS, request, self._scope)
            for item in page.items:
                found.setdefault(item.content_digest, []).append(item)
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        return found


def stored_item(item: search_pb2.Item) -> StoredItem:
    """Make of a stored item what the plan sees of it."""
    return StoredItem(
        id=item.id,
        digest=item.content_digest,
        metadata=item.metadata.fields,
        spaces=frozenset(item.vectors),
        caption=item.caption.text if item.HasField("caption") else None,
        caption_model=item.caption.model,
        image_uri=item.image_uri,
        hashed=item.HasField("perceptual_hash"),
        feature_kind=item.local_feature_kind,
    )


def _donors(made: ItemPlan) -> set[str]:
    return {*made.take.values(), *filter(None, (made.caption_from, made.hash_from, made.features_from, made.tags_from))}
