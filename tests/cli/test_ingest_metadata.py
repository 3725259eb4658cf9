"""What a second ingest of the same folder keeps, what it changes, and into which collection it goes."""

import asyncio
import json
from pathlib import Path

import pytest

from lensmesh.common.v1 import common_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_client import ChannelSecurity
from lensmesh_client.connection import Connection
from tests.cli.in_process import User
from tests.support.meshes import draw_images


def albums(user: User, collection: str) -> dict[str, object]:
    """What each item's metadata says, by its file's name."""
    hits = user.json("search", "x", "--collection", collection)["hits"]
    return {hit["image_uri"].rpartition("/")[2]: hit["metadata"] for hit in hits}


def test_metadata_stays_until_it_is_replaced(user: User, tmp_path: Path) -> None:
    first, second = draw_images(tmp_path / "in", 2, start=7400)
    about, more = tmp_path / "about.jsonl", tmp_path / "more.jsonl"
    about.write_text("".join(json.dumps({"path": path.name, "album": "summer"}) + "\n" for path in (first, second)))
    more.write_text(json.dumps({"path": first.name, "year": 2020}))
    folder = ("ingest", tmp_path / "in", "--collection", "kept")
    assert user.json(*folder, "--metadata", about)["changes"] == {}
    third = draw_images(tmp_path / "in", 1, start=7402)[0]
    said = user.json(*folder)
    assert (said["outcomes"], said["changes"]) == ({"created": 1, "unchanged": 2}, {})
    summer: dict[str, object] = {"album": "summer"}
    assert albums(user, "kept") == {first.name: summer, second.name: summer, third.name: {}}
    added = user.run(*folder, "--metadata", more)
    assert "changed of those updated: metadata of 1" in added.err
    assert albums(user, "kept") == {first.name: summer | {"year": 2020}, second.name: summer, third.name: {}}
    replaced = user.json(*folder, "--metadata", more, "--replace-metadata")
    assert replaced["changes"] == {"metadata": 2}
    assert albums(user, "kept") == {first.name: {"year": 2020}, second.name: {}, third.name: {}}


def test_fields_that_no_item_has_are_named(user: User, tmp_path: Path) -> None:
    draw_images(tmp_path / "in", 1, start=7410)
    about = tmp_path / "about.jsonl"
    about.write_text(json.dumps({"path": "p7410.png", "year": 2020}))
    assert user.run("ingest", tmp_path / "in", "--collection", "fields", "--metadata", about).code == 0
    search = ("search", "x", "--collection", "fields")
    misspelt = user.run(*search, "-f", "yaer=2020", "-f", "year=2020", "-f", "place!=*")
    assert "no item has a field yaer: is it spelt right?" in misspelt.err
    assert misspelt.err.count("no item has") == 1
    assert "no item has" not in user.run(*search, "-f", "year=1999").err
    assert "no item has" not in user.run(*search, "-f", "year=2020").err


def test_the_collection_is_made_on_white(user: User, tmp_path: Path) -> None:
    draw_images(tmp_path / "in", 1, start=7420)
    assert user.json("ingest", tmp_path / "in", "--collection", "white", "--transparency", "white")["stored"] == 1

    async def made() -> search_pb2.Collection:
        connection = Connection(user.target, ChannelSecurity(), 30.0, 1 << 20)
        try:
            request = search_pb2.GetCollectionRequest(name="white")
            answer = await connection.call(connection.search.GetCollection, request)
        finally:
            await connection.close()
        return answer.collection

    [named] = asyncio.run(made()).spaces
    assert named.space.transparency == common_pb2.TRANSPARENCY_POLICY_WHITE
    refused = user.run("ingest", tmp_path / "in", "--collection", "white", "--transparency", "drop", "--fresh")
    assert refused.code == 1
    assert "transparency" in refused.err


def test_a_bulk_ingest_builds_the_index_at_its_end(user: User, tmp_path: Path) -> None:
    draw_images(tmp_path / "in", 3, start=7440)
    assert user.json("ingest", tmp_path / "in", "--collection", "many", "--bulk")["stored"] == 3

    async def made() -> search_pb2.Collection:
        connection = Connection(user.target, ChannelSecurity(), 30.0, 1 << 20)
        try:
            request = search_pb2.GetCollectionRequest(name="many")
            answer = await connection.call(connection.search.GetCollection, request)
        finally:
            await connection.close()
        return answer.collection

    [named] = asyncio.run(made()).spaces
    assert named.index.HasField("deferred")
    assert named.index_status.state == search_pb2.INDEX_STATE_BUILT
    # Into what is there: nothing is left to build.
    assert user.json("ingest", tmp_path / "in", "--collection", "many", "--bulk", "--fresh")["stored"] == 3


def test_a_collection_that_keeps_no_local_features_refuses_who_asks_for_them(user: User, tmp_path: Path) -> None:
    draw_images(tmp_path / "in", 2, start=7450)
    assert user.json("ingest", tmp_path / "in", "--collection", "plain")["stored"] == 2
    refused = user.run("ingest", tmp_path / "in", "--collection", "plain", "--local-features")
    assert refused.code == 1
    assert "keeps none" in refused.err


def test_the_default_collection_may_have_another_name(user: User, tmp_path: Path) -> None:
    paths = draw_images(tmp_path / "in", 2, start=7430)
    folder = ("ingest", tmp_path / "in", "--journal", tmp_path / "journal")
    assert user.json(*folder)["stored"] == 2
    again = user.json(*folder)
    assert (again["stored"], again["skipped"]) == (0, 2)
    paths[0].unlink()
    assert user.json(*folder, "--prune", "--yes")["pruned"] == 1
    left = user.json("search", "--image", paths[1], "--collection", "house", "-n", "1")["hits"]
    assert left[0]["image_uri"] == paths[1].as_uri()


@pytest.mark.parametrize("path", ["/dev/zero", "/nowhere/a.jpg", "/"])
def test_an_image_to_search_by_is_read_within_bounds(user: User, path: str) -> None:
    refused = user.run("search", "--image", path)
    assert refused.code == 2
    assert f"--image: {path}: it" in refused.err
