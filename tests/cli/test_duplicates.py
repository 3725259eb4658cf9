"""`lensmesh duplicates`: groups shown, as JSON and as a page, cleared up; what is refused, and how Ctrl-C leaves it."""

import asyncio
import hashlib
import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lensmesh_client import Client, Item, PerceptualHash, SyncClient
from lensmesh_client.jobs import JobCalls
from tests.cli.in_process import User
from tests.search.near_hashes import altered, hash_of


def item(item_id: str, seed: int, bits: int = 0, **fields: Any) -> Item:
    return Item(item_id, perceptual_hash=PerceptualHash(altered(hash_of(seed), range(bits)).hex(), 90), **fields)


@pytest.fixture
def boats(user: User, tmp_path: Path) -> str:
    """Three of one look and two of another, one with its file; and a single one."""
    name = f"boats-{hashlib.sha256(str(tmp_path).encode()).hexdigest()[:8]}"
    file = tmp_path / "boat.png"
    content = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(content, "PNG")
    file.write_bytes(content.getvalue())
    with SyncClient(user.target) as client:
        client.collections.create(name)
        for each in (
            item("boat", 1, image_uri=file.as_uri()),
            item("boat again", 1, 3),
            item("small boat", 1, 9, metadata={"size": "small"}),
            item("pier", 2),
            item("pier, cut", 2, 30),
            item("gull", 3),
        ):
            client.items.upsert(each, collection=name)
    return name


def test_groups_are_shown(user: User, boats: str, tmp_path: Path) -> None:
    done = user.run("duplicates", boats)
    assert done.code == 0
    assert "2 groups of 5 items, of 6 that were compared; 0 have" in done.err
    lines = [line.split() for line in done.out.splitlines()[1:]]
    assert lines[0][:3] == ["1", "boat", "boat.png"]
    assert lines[1:] == [["3", "boat", "again"], ["9", "small", "boat"], ["2", "pier"], ["30", "pier,", "cut"]]
    told = user.json("duplicates", "--collection", boats, "--max-distance", "8", "-f", "size!=small")
    assert (told["group_count"], told["compared_count"]) == (1, 5)
    assert [(each["id"], each["distance"]) for each in told["groups"][0]["items"]] == [("boat", 0), ("boat again", 3)]
    again = user.run("duplicates", "--job", told["job"], "-n", "1")
    assert (again.code, "boat again" in again.out) == (0, True)
    page = tmp_path / "same.html"
    written = user.run("duplicates", boats, "-n", "1", "--html", page, "--images-from", tmp_path)
    assert (written.code, "-n 2 shows the others too" in written.err) == (0, True)
    html = page.read_text()
    assert "data:image/jpeg" in html
    assert "3 images" in html
    assert "pier" not in html
    assert "1 of its images are not shown" in user.run("duplicates", boats, "--html", page).err


def test_all_but_the_first_of_each_group_are_removed(user: User, boats: str) -> None:
    refused = user.run("duplicates", boats, "--delete-all-but-first")
    assert (refused.code, "remove" in refused.err, "--yes" in refused.err) == (1, True, True)
    job = user.json("duplicates", boats)["job"]
    with SyncClient(user.target) as client:
        # What changed since then stays, and so does a group whose first item did.
        client.items.upsert(item("small boat", 7), collection=boats)
        client.items.upsert(item("pier", 8), collection=boats)
        told = user.json("duplicates", "--job", job, "--delete-all-but-first", "--yes")
        assert told["removed_count"] == 1
        left = {each.id for each in client.items.list(collection=boats)}
        assert left == {"boat", "small boat", "pier", "pier, cut", "gull"}
        assert "gone by now" in user.run("duplicates", "--job", job).out
        client.collections.delete(boats)
    gone = user.run("duplicates", "--job", job)
    assert (gone.code, gone.out.count("gone by now")) == (0, 5)


def test_what_is_refused(user: User, boats: str, tmp_path: Path) -> None:
    for arguments in (
        ("duplicates", boats, "--max-distance", "32"),
        ("duplicates", boats, "--job", "x"),
        ("duplicates", "--collection", boats, "--job", "x"),
        ("duplicates", boats, "--collection", "another"),
        ("duplicates", boats, "-f", "size"),
        ("duplicates", boats, "--html", str(tmp_path / "none" / "page.html")),
    ):
        assert user.run(*arguments).code == 2, arguments
    missing = user.run("duplicates", "no-collection")
    assert (missing.code, "COLLECTION_NOT_FOUND" in missing.err) == (1, True)
    with SyncClient(user.target) as client:
        other = client.jobs.start_delete("$id=nobody", collection=boats)
        client.jobs.wait(other.id)
    kind = user.run("duplicates", "--job", other.id)
    assert (kind.code, "JOB_INVALID" in kind.err) == (1, True)


def test_ctrl_c_leaves_the_job_and_says_how_to_go_on(user: User, boats: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def watch(self: JobCalls, job_id: str, **_: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(JobCalls, "watch", watch)
        done = user.run("duplicates", boats)
    assert done.code == 130
    job_id = done.err.partition("lensmesh duplicates --job ")[2].split()[0]

    async def ended() -> int:
        async with Client(user.target) as client:
            return int((await client.jobs.wait(job_id)).done_count)

    assert asyncio.run(ended()) == 12
