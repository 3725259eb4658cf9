"""One image that ends the encoder, while it is decoded or computed: it is refused, and those beside it are stored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import grpc
import pytest
from PIL import Image
from pydantic import SecretStr

from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from lensmesh.router.v1 import router_pb2
from lensmesh_chassis.channels import OWN_CONNECTIONS
from lensmesh_chassis.process.server import running
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import from_status
from lensmesh_client import Captions, Client, IngestItem, IngestResult, Outcome
from router_svc.upstreams.suspects import ALL_LOSSES
from search_svc.app import SearchApp
from search_svc.settings import SearchSettings
from tests.faults.helpers import AT_ONCE_S, SERVING, Faulty, image_files, router_for, started, until
from tests.faults.poison import DEADLY_TO_COMPUTE, DEADLY_TO_DECODE
from tests.support.postgres import PostgresForTests

COUNT = 32
PLACE = 13
RESTART_S = 30.0


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    server = PostgresForTests()
    yield server.url
    server.remove()


async def ingest(client: Client, images: Sequence[Path], collection: str) -> list[IngestResult]:
    stream = client.ingest_many(
        [IngestItem(path) for path in images], collection=collection, captions=Captions.NONE, patience_s=600
    )
    return sorted([result async for result in stream], key=lambda result: result.index)


@pytest.mark.parametrize(
    ("size", "most", "most_each"),
    [
        # In the batch of 32, and of 4: an encoder that is started again has it in mind, and decodes it with care.
        pytest.param(DEADLY_TO_DECODE, 2, 1, id="decoded"),
        # In the batch of 32, of 4, and then alone: twice, or up to ALL_LOSSES times where the other replica's end is
        # seen meanwhile, since it may have been the cause. No process that ends knows why.
        pytest.param(DEADLY_TO_COMPUTE, 2 + ALL_LOSSES, 4, id="computed"),
    ],
)
async def test_an_image_that_ends_encoders_is_refused_and_its_neighbours_are_stored(
    size: tuple[int, int], most: int, most_each: int, database: str, tmp_path: Path
) -> None:
    images = image_files(tmp_path / "images", COUNT)
    Image.new("RGB", size, (1, 2, 3)).save(images[PLACE])
    poison = images[PLACE].read_bytes()
    encoders = [Faulty("encoder", tmp_path / f"encoder-{n}", STATE_DIR=str(tmp_path / f"state-{n}")) for n in (1, 2)]

    def ends() -> list[int]:
        return [encoder.process.restarts for encoder in encoders]

    search = running(SearchSettings(listen="127.0.0.1:0", store_url=SecretStr(database)), SearchApp, "search")
    async with (
        started(*encoders),
        search as store,
        router_for(encoders, search_targets=store.address) as router,
        Client(router.address, timeout_s=600) as client,
    ):
        for outcome in (Outcome.CREATED, Outcome.UNCHANGED):
            results = await ingest(client, images, f"poison-{most}")
            assert [result.index for result in results] == list(range(COUNT))
            assert {result.index: result.error.reason for result in results if result.error} == {
                PLACE: Reason.IMAGE_TOO_COSTLY
            }
            assert {result.outcome for result in results if not result.error} == {outcome}
            # It is known from then on.
            assert 1 <= sum(ends()) <= most
            assert max(ends()) <= most_each
        for encoder in encoders:
            await until(partial(encoder.says, SERVING), RESTART_S, "it serves again")
            await until(partial(router.finds, encoder, router_pb2.HEALTH_SERVING), AT_ONCE_S, "GetStatus says so")
            if size == DEADLY_TO_DECODE and encoder.process.restarts:
                assert await refuses(encoder, poison)
        assert sum(ends()) <= most


async def refuses(encoder: Faulty, image: bytes) -> bool:
    """Whether an encoder that ended by an image before refuses it now, without a router's help."""
    request = encoder_pb2.EncodeImagesRequest(images=[common_pb2.Image(content=image)])
    async with grpc.aio.insecure_channel(encoder.address, [OWN_CONNECTIONS]) as channel:
        [result] = (await encoder_pb2_grpc.EncoderServiceStub(channel).EncodeImages(request, timeout=120)).results
    return from_status(result.error).reason is Reason.IMAGE_TOO_COSTLY
