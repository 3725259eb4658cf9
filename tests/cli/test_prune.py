"""`lensmesh ingest --prune`: what is gone is removed, and never more."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from lensmesh.search.v1 import search_pb2
from lensmesh_cli.disk import Disk
from lensmesh_cli.ingest.prune import find_gone
from lensmesh_cli.ingest.stored import Stored
from lensmesh_client import IngestItem, SyncClient
from tests.cli.in_process import User
from tests.support.meshes import draw_images


def test_only_what_is_gone_for_certain_is_found(tmp_path: Path) -> None:
    there = tmp_path / "in" / "there.jpg"
    there.parent.mkdir()
    there.touch()
    gone, elsewhere = tmp_path / "in" / "gone.jpg", tmp_path / "other" / "gone.jpg"
    files = {"there": {there}, "gone": {gone}, "moved": {gone, there}, "elsewhere": {elsewhere}, "held": {gone}}
    with Disk() as disk:
        assert find_gone(files, [tmp_path / "in"], {"held"}, disk) == {"gone": {gone}}


def test_items_of_files_that_are_gone_are_removed(user: User, tmp_path: Path) -> None:
    paths = draw_images(tmp_path / "in", 4, start=7300)
    other = draw_images(tmp_path / "other", 1, start=7300)
    name = ("--collection", "pruned")
    assert user.json("ingest", tmp_path / "other", *name)["stored"] == 1
    assert user.json("ingest", tmp_path / "in", *name)["stored"] == 4
    for path in paths[:3]:
        path.unlink()
    with SyncClient(user.target) as client:
        # Somebody else wrote that one again, from elsewhere.
        drawn = draw_images(tmp_path / "theirs", 1, start=7301)[0]
        client.ingest(IngestItem(drawn, image_uri=drawn.as_uri()), collection="pruned")
    asked = user.run("ingest", tmp_path / "in", *name, "--prune")
    assert "1 items would be removed; --yes removes them" in asked.err
    assert str(paths[2]) in asked.err
    assert user.json("ingest", tmp_path / "in", *name, "--prune", "--yes")["pruned"] == 1
    left = {hit["id"] for hit in user.json("search", "x", *name)["hits"]}
    assert len(left) == 3
    # The first one is still in the other folder.
    assert other[0].exists()
    assert "nothing to remove" in user.run("ingest", tmp_path / "in", *name, "--prune", "--yes").err
    paths[3].unlink()
    assert "is the disk mounted?" in user.run("ingest", tmp_path / "in", *name, "--prune", "--yes").err
    assert len(user.json("search", "x", *name)["hits"]) == 3


def test_what_somebody_writes_between_the_look_and_the_removal_stays(
    user: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = draw_images(tmp_path / "in", 3, start=7400)
    name = ("--collection", "pruned-late")
    assert user.json("ingest", tmp_path / "in", *name)["stored"] == 3
    contents = [path.read_bytes() for path in paths]
    for path in paths[:2]:
        path.unlink()
    look = Stored.items
    written: list[str] = []

    async def look_and_lose(stored: Stored, ids: Sequence[str]) -> dict[str, search_pb2.Item]:
        found = await look(stored, ids)
        if not written:
            with SyncClient(user.target) as client:
                item = IngestItem(contents[0], image_uri="https://example.org/theirs.png")
                written.append(client.ingest(item, collection="pruned-late").id)
        return found

    monkeypatch.setattr(Stored, "items", look_and_lose)
    done = user.run("ingest", tmp_path / "in", *name, "--prune", "--yes")
    assert "1 items removed" in done.err
    assert "1 items stay: somebody wrote them again meanwhile" in done.err
    left = {hit["id"]: hit["image_uri"] for hit in user.json("search", "x", *name)["hits"]}
    assert left[written[0]] == "https://example.org/theirs.png"
    assert len(left) == 2


def test_folders_behind_links_and_above(user: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Items are remembered by where their files really lie, whatever way led there."""
    real, linked = tmp_path / "real", tmp_path / "linked"
    paths, more = draw_images(real / "in", 3, start=7500), draw_images(tmp_path / "more", 2, start=7510)
    linked.symlink_to(real)
    (real / "followed").symlink_to(tmp_path / "more")
    name = ("--collection", "pruned-links")
    assert user.json("ingest", linked, *name, "--follow")["stored"] == 5
    paths[0].unlink()
    more[0].unlink()
    assert user.json("ingest", linked, *name, "--follow", "--prune", "--yes")["pruned"] == 2
    paths[1].unlink()
    monkeypatch.chdir(real / "in")
    assert user.json("ingest", "..", *name, "--prune", "--yes")["pruned"] == 1
    assert len(user.json("search", "x", *name)["hits"]) == 2
