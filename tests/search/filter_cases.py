"""Metadata and trees of filters, and what each tree finds, compared with a plain reading of it."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from search_svc.filters import All, Filter
from search_svc.model import Caption, Collection, Item, View
from search_svc.store import Store
from tests.search.evaluate import metadata_of, passes
from tests.search.strategies import INDEXES, filters, metadata
from tests.search.support import definition


async def compare(store: Store, all_metadata: list[dict[str, Any]], trees: list[Filter], indexed: bool) -> None:
    name, indexes = ("indexed", INDEXES) if indexed else ("plain", {})
    made = await store.create_collection(definition(name, indexes=indexes), timeout_s=60)
    collection = made.collection
    items = items_of(all_metadata)
    await store.delete_matching(collection, All(()), timeout_s=60)
    await store.upsert(collection, items, timeout_s=60)
    for tree in trees:
        expected = {item.id for item in items if passes(tree, item, metadata_of(item))}
        assert await chosen(store, collection, tree) == expected, tree


cases = given(st.lists(metadata, min_size=1, max_size=8), st.lists(filters, min_size=1, max_size=6))


def items_of(all_metadata: list[dict[str, Any]]) -> list[Item]:
    captions = [None, Caption("a", 0, 0, False, ""), Caption("", 0, 0, False, "")]
    return [
        Item(
            f"i{i}",
            metadata=json.dumps(each, ensure_ascii=False),
            caption=captions[i % 3],
            content_digest=(b"", b"\x00", b"\xff")[i % 3],
        )
        for i, each in enumerate(all_metadata)
    ]


async def chosen(store: Store, collection: Collection, tree: Filter) -> set[str]:
    page = await store.list_items(
        collection, filter=tree, after="", count=100, view=View.ID, max_bytes=1 << 20, timeout_s=60
    )
    return {item.id for item in page.items}
