"""A hostile caller cannot grow the number of series: nothing that is sent becomes a label."""

import contextlib
import secrets
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from lensmesh.caption.v1 import caption_pb2, caption_pb2_grpc
from lensmesh.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from lensmesh.router.v1 import router_pb2, router_pb2_grpc
from lensmesh.search.v1 import search_pb2, search_pb2_grpc
from tests.cli.meshes import Mesh, mock_mesh
from tests.observability.exposed import scrape, series
from tests.observability.load import picture
from tests.observability.prometheus import SERVICES, metrics_of

ROUNDS = 20


@pytest.fixture
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """A mesh that nobody else calls."""
    with mock_mesh(tmp_path_factory.mktemp("attacked")) as mesh:
        yield mesh


def attack(address: str) -> None:
    """Everything that a caller chooses, made up: methods, services, models, spaces, collections, ids, metadata."""
    made_up = secrets.token_hex(8)
    with grpc.insecure_channel(address) as channel:

        def ask(method: Any, request: Any) -> None:
            metadata = ((f"x-{made_up}", made_up), ("x-request-id", made_up), ("user-agent", made_up))
            with contextlib.suppress(grpc.RpcError):
                method(request, timeout=60, metadata=metadata)

        encoder = encoder_pb2_grpc.EncoderServiceStub(channel)
        captioner = caption_pb2_grpc.CaptionerServiceStub(channel)
        search = search_pb2_grpc.SearchServiceStub(channel)
        router = router_pb2_grpc.RouterServiceStub(channel)
        for path in (f"/lensmesh.search.v1.SearchService/{made_up}", f"/{made_up}.v1.Service/Get", f"/{made_up}"):
            ask(channel.unary_unary(path), b"")
        ask(encoder.EncodeTexts, encoder_pb2.EncodeTextsRequest(texts=[made_up]))
        ask(
            encoder.EncodeTexts,
            encoder_pb2.EncodeTextsRequest(texts=["x"], options=encoder_pb2.EncodeOptions(space_id=made_up)),
        )
        options = caption_pb2.CaptionOptions(model=made_up, prompt=made_up)
        ask(captioner.CaptionImages, caption_pb2.CaptionImagesRequest(options=options))
        ask(search.GetCollection, search_pb2.GetCollectionRequest(name=made_up))
        ask(search.GetItems, search_pb2.GetItemsRequest(collection=made_up, ids=[made_up]))
        item = router_pb2.IngestItem(id=made_up)
        item.metadata[made_up] = made_up
        item.image.content = picture(0)
        ask(
            router.Ingest,
            router_pb2.IngestRequest(options=router_pb2.IngestOptions(collection=f"c{made_up}"), item=item),
        )


def counted(mesh: Mesh) -> dict[str, int]:
    """Series by service."""
    return {service: len(series(scrape(metrics_of(mesh, service)))) for service in SERVICES}


def test_made_up_names_make_no_series(quiet: Mesh) -> None:
    addresses = [quiet.addresses[service] for service in SERVICES]
    for _ in range(2):
        for address in addresses:
            attack(address)
    before = counted(quiet)
    for _ in range(ROUNDS):
        for address in addresses:
            attack(address)
    assert counted(quiet) == before
