"""Removal of all items of groups but the first. What has changed since the groups were found stays."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from lensmesh_client import Client, DuplicateGroup


async def clear(client: Client, collection: str, groups: Sequence[DuplicateGroup], found_at: datetime) -> int:
    """Remove the items of groups but the first. Return how many are gone.

    A group whose first item is gone, or was written since `found_at`, is left whole, and so is each item that was
    written since then: it may show another image by now.
    """
    most = (await client.info("search")).limits.max_items or 1_000
    since = f"$update_time<={found_at.isoformat()}"
    count = 0
    for begin in range(0, len(groups), most):
        some = groups[begin : begin + most]
        firsts = await client.items.get([group.items[0].id for group in some], collection=collection)
        unchanged = {item.id for item in firsts.items if item.update_time and item.update_time <= found_at}
        others = [item.id for group in some if group.items[0].id in unchanged for item in group.items[1:]]
        for place in range(0, len(others), most):
            those = f"$id={json.dumps(others[place : place + most])}"
            count += await client.items.delete(filter=[those, since], collection=collection)
    return count
