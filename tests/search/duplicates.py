"""Jobs that find duplicates, and what is asked of them."""

from typing import Any

from lensmesh.common.v1 import common_pb2
from lensmesh.search.v1 import search_pb2
from tests.search.support import Stub, item


def hashed(item_id: str, hash_: bytes, quality: int = 90, unframed: bytes = b"", **fields: Any) -> search_pb2.Item:
    looks = common_pb2.PerceptualHash(hash=hash_, quality=quality, unframed=unframed)
    return item(item_id, perceptual_hash=looks, **fields)


async def find(stub: Stub, job_id: str = "", **fields: Any) -> search_pb2.Job:
    request = search_pb2.StartFindDuplicatesRequest(**{"collection": "pictures", "job_id": job_id, **fields})
    return (await stub.StartFindDuplicates(request)).job


async def read(stub: Stub, job_id: str, first_group: int = 0) -> list[search_pb2.DuplicateGroup]:
    """Groups, joined of their parts."""
    groups: list[search_pb2.DuplicateGroup] = []
    request = search_pb2.ReadDuplicatesRequest(job_id=job_id, first_group=first_group)
    async for answer in stub.ReadDuplicates(request):
        for group in answer.groups:
            if group.first_item:
                assert (groups[-1].index, len(groups[-1].items)) == (group.index, group.first_item)
                groups[-1].items.extend(group.items)
            else:
                groups.append(group)
    assert [group.index for group in groups] == list(range(first_group, first_group + len(groups)))
    assert all(len(group.items) == group.item_count for group in groups)
    return groups


async def ids(stub: Stub, job_id: str, first_group: int = 0) -> list[list[str]]:
    return [[each.id for each in group.items] for group in await read(stub, job_id, first_group)]
