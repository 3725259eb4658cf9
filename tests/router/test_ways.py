"""docs/way-of-an-image.md names what is there, and all of it: what has an image in its hands, what a text crosses."""

import ast
import asyncio
import dataclasses
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from google.protobuf.message import Message

from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.images.fetching import Fetcher
from router_svc.collection_cache import CollectionCache
from router_svc.cut import CallLimits
from router_svc.model_directory import ModelTargets
from router_svc.search import SearchHandler
from router_svc.service import RouterServicer
from router_svc.settings import RouterSettings
from router_svc.upstreams.kinds import Kind
from router_svc.upstreams.models import Encoders
from router_svc.upstreams.pool import UpstreamPool
from router_svc.upstreams.tries import Upstream
from tests.router.conftest import Mesh
from tests.router.fakes import SPACE
from tests.router.helpers import item

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/way-of-an-image.md").read_text(encoding="utf-8")
NAME = re.compile(r"`((?:\w+_svc|lensmesh_\w+)(?:\.\w+)+)`")
STEP = re.compile(r"^\d+\. `([\w.]+)` ", re.MULTILINE)
IMAGE = b"the bytes of this very image"


def steps(heading: str) -> list[str]:
    """The functions that one list of the page names, in order."""
    [_, section] = PAGE.split(f"## {heading}\n")
    return STEP.findall(section.split("\n## ")[0])


def names_in(tree: ast.AST, prefix: str = "") -> Iterator[str]:
    """Every class and function of a module, with the classes it stands in."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{prefix}{node.name}"
            yield from names_in(node, f"{prefix}{node.name}.")


def place_of(name: str) -> tuple[Path, str]:
    """The file of a dotted name, relative to the root, and the name within it."""
    parts = name.split(".")
    for length in range(len(parts) - 1, 0, -1):
        path = Path(*parts[:length]).with_suffix(".py")
        if (ROOT / path).is_file():
            return path, ".".join(parts[length:])
    pytest.fail(f"{name}: no such module")


def own_place(frame: FrameType) -> tuple[Path, str] | None:
    """Where a frame of the Router's is; None of others."""
    path = Path(frame.f_code.co_filename)
    if not path.is_relative_to(ROOT / "router_svc"):
        return None
    return path.relative_to(ROOT), frame.f_code.co_qualname


def test_what_the_page_names_exists() -> None:
    names = NAME.findall(PAGE)
    assert len(names) > 40
    for name in names:
        path, within = place_of(name)
        assert within in names_in(ast.parse((ROOT / path).read_text(encoding="utf-8"))), name


def holds_image(value: Any, depth: int = 3) -> bool:
    """Whether a variable is the image, or a message or record with it inside."""
    match value:
        case bytes():
            return IMAGE in value
        case Message():
            return IMAGE in value.SerializeToString()
        case list() | tuple() if depth:
            return any(holds_image(one, depth - 1) for one in value)
    if depth and dataclasses.is_dataclass(value) and not isinstance(value, type):
        return any(holds_image(getattr(value, one.name, None), depth - 1) for one in dataclasses.fields(value))
    return False


async def test_few_files_have_an_image_in_their_hands_and_the_page_names_them(mesh: Mesh) -> None:
    seen: dict[tuple[Path, str], int] = {}

    def look(frame: FrameType, event: str, _: Any) -> None:
        place = own_place(frame) if event in ("call", "return") else None
        if place is not None and place not in seen:
            variables: Mapping[str, Any] = frame.f_locals
            if any(holds_image(value) for name, value in variables.items() if name != "self"):
                seen[place] = len(seen)

    sys.setprofile(look)
    try:
        # Without captions: the Captioner's calls go the same way at the same time.
        results = await mesh.ingest(item("one", IMAGE), captions=router_pb2.CAPTION_POLICY_NONE)
    finally:
        sys.setprofile(None)
    assert results["one"].HasField("item")
    named = [place_of(name) for name in steps("An image in the Router")]
    assert {path for path, _ in seen} == {path for path, _ in named}
    assert len({path for path, _ in seen}) < 12
    assert set(named) <= set(seen)
    # The servicer is seen with the first message when it hands it on.
    order = [seen[place] for place in named[1:]]
    assert order == sorted(order)


class Reached(BaseException):
    """What the stub is reached with, and what nothing on the way back holds up."""


class Stub:
    """Of an encoder that nobody gets past, and of a store that has one collection."""

    async def EncodeTexts(self, request: Any, timeout: float) -> Any:  # noqa: ASYNC109 - as of a stub
        raise Reached

    async def GetCollection(self, request: Any, timeout: float) -> Any:  # noqa: ASYNC109 - as of a stub
        space = search_pb2.NamedSpace(name="image", space=SPACE)
        return search_pb2.GetCollectionResponse(collection=search_pb2.Collection(name=request.name, spaces=[space]))


class Directory:
    async def encoders(self, space_id: str) -> ModelTargets:
        return ModelTargets(("one",), CallLimits(64, 1 << 20))


class Context:
    def time_remaining(self) -> float:
        return 60.0


async def test_few_frames_lie_between_a_search_and_the_encoder_and_the_page_names_them() -> None:
    settings, draining = RouterSettings(), asyncio.Event()
    encoders, stores = (
        UpstreamPool(kind, [Upstream("one", Stub())], draining=draining, call_s=60)
        for kind in (Kind.ENCODER, Kind.SEARCH)
    )
    directory: Any = Directory()
    collections = CollectionCache(stores, directory, default="default", believed_s=60)
    fetcher = Fetcher(settings.fetch_policy(settings.max_image_bytes))
    handler = SearchHandler(Encoders(encoders, directory), stores, collections, fetcher)
    nobody: Any = None
    servicer = RouterServicer(settings, nobody, nobody, handler, nobody, nobody, draining)
    with pytest.raises(Reached) as reached:
        await servicer.Search(router_pb2.SearchRequest(queries=[router_pb2.Query(text="red")]), Context())
    await fetcher.aclose()
    frames = [place for frame, _ in traceback.walk_tb(reached.value.__traceback__) if (place := own_place(frame))]
    assert len(frames) < 9
    assert frames == [place_of(name) for name in steps("A search text in the Router")]
