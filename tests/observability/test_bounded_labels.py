"""A hostile caller cannot grow the number of series: nothing that is sent becomes a label."""

import contextlib
import http.client
import secrets
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from lensmesh.caption.v1 import caption_pb2, caption_pb2_grpc
from lensmesh.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from lensmesh.router.v1 import router_pb2, router_pb2_grpc
from lensmesh.search.v1 import search_pb2, search_pb2_grpc
from lensmesh_chassis.reasons import Reason
from tests.observability.load import image
from tests.observability.prometheus import SERVICES, metrics_of
from tests.support.exposed import scrape, series
from tests.support.meshes import Mesh, mock_mesh

ROUNDS = 20


@pytest.fixture
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """A mesh that nobody else calls."""
    with mock_mesh(tmp_path_factory.mktemp("attacked"), "--http") as mesh:
        yield mesh


def attack(address: str) -> str:
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
        item.image.content = image(0)
        ask(
            router.Ingest,
            router_pb2.IngestRequest(options=router_pb2.IngestOptions(collection=f"c{made_up}"), item=item),
        )
    return made_up


def attack_by_http(address: str) -> str:
    """Paths, methods, queries and headers, made up."""
    made_up = secrets.token_hex(8)
    for method, path in (
        ("GET", f"/{made_up}"),
        ("POST", f"/lensmesh.search.v1.SearchService/{made_up}"),
        (f"X{made_up}", f"/healthz?{made_up}={made_up}"),
        ("GET", f"/v1/images/{made_up}"),
    ):
        connection = http.client.HTTPConnection(address, timeout=60)
        with contextlib.closing(connection):
            connection.request(method, path, headers={f"x-{made_up}": made_up, "user-agent": made_up})
            connection.getresponse().read()
    return made_up


# Their values are few and our own: a busy machine may well answer with another one than before.
OUR_WORDS = {"grpc_code": {code.name for code in grpc.StatusCode}, "reason": {reason.value for reason in Reason}}


def shown(mesh: Mesh) -> dict[str, set[tuple[str, tuple[tuple[str, str], ...]]]]:
    """The series of each service, without the labels whose values are checked to be ours."""
    found: dict[str, set[tuple[str, tuple[tuple[str, str], ...]]]] = {}
    for service in SERVICES:
        found[service] = set()
        for name, labels in series(scrape(metrics_of(mesh, service))):
            for label, words in OUR_WORDS.items():
                assert dict(labels).get(label, next(iter(words))) in words | {"STALE", "REFUSED", "UNEXPECTED"}
            found[service].add((name, tuple(pair for pair in labels if pair[0] not in OUR_WORDS)))
    return found


def test_made_up_names_make_no_series(quiet: Mesh) -> None:
    def attack_on(address: str) -> str:
        return attack_by_http(address) if address == quiet.addresses["http"] else attack(address)

    addresses = [quiet.addresses[service] for service in SERVICES]
    for _ in range(2):
        for address in addresses:
            attack_on(address)
    before = shown(quiet)
    made_up = [attack_on(address) for _ in range(ROUNDS) for address in addresses]
    assert shown(quiet) == before
    text = "".join(scrape(metrics_of(quiet, service)) for service in SERVICES)
    assert not [word for word in made_up if word in text]
