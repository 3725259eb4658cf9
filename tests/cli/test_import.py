"""`lensmesh import --arthur`: names come from the tree, what does not fit is told, and nothing is guessed."""

import base64
import json
from pathlib import Path

import httpx2
import pytest

from lensmesh_cli.disk import Disk
from lensmesh_cli.ingest.arthur import ArthurWalk
from lensmesh_cli.sources import ImageFile, Problem, RefusedFileError
from lensmesh_client import FieldType, SyncClient
from lensmesh_client.arthur import ViewNames, names_of_id
from lensmesh_client.errors import InvalidInput
from tests.cli.in_process import User, lensmesh_here
from tests.support.meshes import Mesh, draw_images


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


def test_what_is_imported_is_found_at_the_addresses_of_its_system(user: User, mesh: Mesh, tmp_path: Path) -> None:
    # Not everywhere where this module's other tests run.
    from websockets.sync.client import connect

    root = tree(tmp_path, "monet/lilies/front.png", "monet/pond/1.png", "degas/dancers/1.png", start=7700)
    assert user.json("import", "--arthur", root)["stored"] == 3
    front = (root / "monet/lilies/front.png").read_bytes()
    more = draw_images(tmp_path / "more", 1, start=7710)[0].read_bytes()
    door = mesh.addresses["http"]
    with httpx2.Client(base_url=f"http://{door}", timeout=60) as client:
        counted = client.get("/status").json()
        assert (counted["indexed_artists"], counted["total_images"]) == (2, 3)
        (first, *_) = client.post("/match", files={"imgFile": ("a.png", front)}).json()["matches"]
        assert first == {"artistId": "monet", "entryId": "lilies", "viewId": "front", "score": "1.0"}
        found = client.post("/match/degas", files={"imgFile": ("a.png", front)}).json()["matches"]
        assert {match["artistId"] for match in found} <= {"degas"}
        added = client.post("/artist/image/degas/dancers/2", files={"imgFile": ("b.png", more)})
        assert added.json()["message"] == "Added image degas/dancers/2 to index"
        batch = {"images": [base64.b64encode(more).decode(), "no image"], "artist_filter": ["degas"]}
        answer = client.post("/api/v1/batch/match", json=batch).json()
        assert answer["failed_images"] == [1]
        assert (answer["results"][0][0]["view_id"], answer["results"][0][0]["confidence"]) == ("2", "High")
        near = client.get("/api/v1/similar/degas.dancers.2", params={"similarity_threshold": 0}).json()
        assert "2" not in [each["view_id"] for each in near["results"] if each["artist_id"] == "degas"]
        assert near["model_info"]["embedding_dimension"] > 0
        assert client.get("/api/v1/similar/nobody.x.y").status_code == 404
        figures = client.get("/api/v1/artists/degas/analytics").json()
        assert (figures["total_images"], figures["total_entries"]) == (2, 1)
        assert figures["image_distribution"]["by_entry"] == {"dancers": 2}
        assert sum(figures["image_distribution"]["by_month"].values()) == 2
        assert [each["artist_id"] for each in figures["most_similar_artists"]] == ["monet"]
        job = client.post("/unified-index").json()["job_id"]
        with connect(f"ws://{door}/ws/index-progress") as socket:
            told = json.loads(socket.recv(60))
            while told["state"] in ("pending", "running"):
                told = json.loads(socket.recv(60))
        assert (told["job_id"], told["state"], told["percent"]) == (job, "succeeded", 100.0)
        assert client.delete("/artist/image/degas/dancers/2").status_code == 200
        assert client.delete("/artist/image/degas/dancers/2").status_code == 404
