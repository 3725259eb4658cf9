"""`lensmesh ingest --prune`: what is gone is removed, and never more."""

from pathlib import Path

from lensmesh_cli.disk import Disk
from lensmesh_cli.ingest.prune import find_gone
from lensmesh_client import IngestItem, SyncClient
from tests.cli.in_process import User
from tests.cli.meshes import draw_pictures


def test_only_what_is_gone_for_certain_is_found(tmp_path: Path) -> None:
    there = tmp_path / "in" / "there.jpg"
    there.parent.mkdir()
    there.touch()
    gone, elsewhere = tmp_path / "in" / "gone.jpg", tmp_path / "other" / "gone.jpg"
    files = {"there": {there}, "gone": {gone}, "moved": {gone, there}, "elsewhere": {elsewhere}, "held": {gone}}
    with Disk() as disk:
        assert find_gone(files, [tmp_path / "in"], {"held"}, disk) == {"gone": {gone}}


def test_items_of_files_that_are_gone_are_removed(user: User, tmp_path: Path) -> None:
    paths = draw_pictures(tmp_path / "in", 4, start=7300)
    other = draw_pictures(tmp_path / "other", 1, start=7300)
    name = ("--collection", "pruned")
    assert user.json("ingest", tmp_path / "other", *name)["stored"] == 1
    assert user.json("ingest", tmp_path / "in", *name)["stored"] == 4
    for path in paths[:3]:
        path.unlink()
    with SyncClient(user.target) as client:
        # Somebody else wrote that one again, from elsewhere.
        drawn = draw_pictures(tmp_path / "theirs", 1, start=7301)[0]
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
