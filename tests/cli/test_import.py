"""`lensmesh import --arthur`: names come from the tree, what does not fit is told, and nothing is guessed."""

import json
from pathlib import Path

import pytest

from lensmesh_cli.disk import Disk
from lensmesh_cli.ingest.arthur import ArthurWalk
from lensmesh_cli.sources import ImageFile, Problem, RefusedFileError
from lensmesh_client import FieldType, SyncClient
from lensmesh_client.arthur import ViewNames, names_of_id
from lensmesh_client.errors import InvalidInput
from tests.cli.in_process import User, lensmesh_here
from tests.support.meshes import draw_images


def tree(folder: Path, *paths: str, start: int) -> Path:
    """A folder of small images, no two alike, at these paths."""
    for drawn, path in zip(draw_images(folder / "drawn", len(paths), start=start), paths, strict=True):
        (folder / "works" / path).parent.mkdir(parents=True, exist_ok=True)
        drawn.rename(folder / "works" / path)
    return folder / "works"


def test_names_make_an_id_and_come_back_out_of_it() -> None:
    for names in (ViewNames("a", "e", "v"), ViewNames("J. Doe", "50%", "%2E.."), ViewNames("草間", "a/b", " ")):
        assert names_of_id(names.item_id()) == names
    assert ViewNames("a.b", "c", "d").item_id() != ViewNames("a", "b.c", "d").item_id()
    for other in ("a", "a.b", "a.b.c.d", "a..c", ""):
        assert names_of_id(other) is None
    for wrong, field in (("", "entry"), ("\n", "entry"), ("e" * 256, "entry"), ("\ud800", "entry")):
        with pytest.raises(InvalidInput) as refused:
            ViewNames("a", wrong, "v").item_id()
        assert refused.value.violations[0].field == field


def test_only_views_are_taken(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        *("monet/lilies/front.png", "monet/lilies/front.jpg", "monet/lilies/back.png", "degas/" + "d" * 250 + "/v.png"),
        *("shallow/v.png", "top.png", "a/b/c/deep.png"),
        start=0,
    )
    (root / "monet" / "notes.txt").write_text("no image")
    with Disk() as disk:
        walk = ArthurWalk(root, disk)
        found = list(walk)
        taken = [each.path for each in found if isinstance(each, ImageFile)]
        assert {walk.item_id(path) for path in taken} == {"monet.lilies.front", "monet.lilies.back"}
        assert walk.metadata(root / "monet/lilies/back.png") == {"artist": "monet", "entry": "lilies", "view": "back"}
    assert (walk.images, walk.artists, walk.entries) == (2, {"monet"}, {("monet", "lilies")})
    assert walk.passed == {".txt": 1}
    left = {}
    for each in found:
        if isinstance(each, Problem):
            assert isinstance(each.error, RefusedFileError)
            left[each.path.relative_to(root).parts[0]] = each.error.reason
    assert left == {
        "monet": "ITEM_ID_DUPLICATE",
        "degas": "ITEM_ID_INVALID",
        "shallow": "ITEM_ID_INVALID",
        "top.png": "ITEM_ID_INVALID",
        "a": "ITEM_ID_INVALID",
    }


def test_a_dry_run_needs_no_mesh(tmp_path: Path) -> None:
    root = tree(tmp_path, "a/e/1.png", "a/e/2.png", "a/f/1.png", "b.png", start=0)
    nowhere = {"LENSMESH_TARGET": "127.0.0.1:1"}
    done = lensmesh_here("import", "--arthur", root, "--dry-run", **nowhere)
    assert done.code == 1
    assert "3 images of 2 entries of 1 artists would go into the collection arthur" in done.out
    assert "b.png: it is not at artist/entry/view.jpg below the folder" in done.err
    done = lensmesh_here("import", "--arthur", root, "--dry-run", "--exclude", "b.png", "--json", **nowhere)
    assert (done.code, json.loads(done.out)) == (
        0,
        {"collection": "arthur", "images": 3, "artists": 1, "entries": 2, "errors": []},
    )


@pytest.mark.parametrize("arguments", [(), ("--arthur", "nowhere"), ("--arthur", __file__)])
def test_a_command_without_a_folder_is_refused(arguments: tuple[str, ...]) -> None:
    assert lensmesh_here("import", *arguments).code == 2


def test_a_tree_is_imported_with_its_names(user: User, tmp_path: Path) -> None:
    root = tree(tmp_path, "monet/lilies/front.png", "monet/lilies/v.2.png", "deep/er/than/it.png", start=7600)
    command = ("import", "--arthur", root, "--collection", "imported")
    first = user.json(*command, code=1)
    assert (first["stored"], first["artists"], first["entries"]) == (2, 1, 1)
    assert [error["reason"] for error in first["errors"]] == ["ITEM_ID_INVALID"]
    again = user.json(*command, code=1)
    assert (again["stored"], again["skipped"]) == (0, 2), "the journal knows them"
    with SyncClient(user.target) as client:
        collection = client.collections.get("imported")
        assert collection.fields == dict.fromkeys(("artist", "entry", "view"), FieldType.KEYWORD)
        item = client.items.get("monet.lilies.v%2E2", collection="imported").items[0]
        assert item.metadata == {"artist": "monet", "entry": "lilies", "view": "v.2"}
    done = user.run("match", root / "monet/lilies/front.png", "--entry", "artist,entry", "--collection", "imported")
    assert "lilies" in done.out
