"""GetStatus tells every replica, and the router's own health never follows its neighbours'."""

from grpc_health.v1 import health_pb2, health_pb2_grpc

from lensmesh.router.v1 import router_pb2
from tests.router.conftest import Mesh
from tests.router.fakes import OTHER_SPACE, SPACE, FakeEncoder

ENCODER = "lensmesh.encoder.v1.EncoderService"


async def status(mesh: Mesh) -> router_pb2.GetStatusResponse:
    answer = await mesh.router.GetStatus(router_pb2.GetStatusRequest(), timeout=10)
    assert isinstance(answer, router_pb2.GetStatusResponse)
    return answer


async def test_the_default_collection_is_told(unstarted: Mesh) -> None:
    mesh = await unstarted.start(default_collection="house")
    assert (await status(mesh)).default_collection == "house"


async def test_every_replica_is_told(unstarted: Mesh) -> None:
    unstarted.encoders = [FakeEncoder(SPACE), FakeEncoder(OTHER_SPACE)]
    mesh = await unstarted.start()
    answer = await status(mesh)
    assert [service.name.rpartition(".")[2] for service in answer.services] == [
        "EncoderService",
        "EncoderService",
        "CaptionerService",
        "SearchService",
    ]
    assert {service.health for service in answer.services} == {router_pb2.HEALTH_SERVING}
    first, second, captioner, search = answer.services
    assert [service.address for service in answer.services] == [
        mesh.host(fake).address for fake in (*mesh.encoders, mesh.captioner, mesh.search)
    ]
    assert (first.spaces[0].id, second.spaces[0].id) == (SPACE.id, OTHER_SPACE.id)
    assert first.models[0].name == "fake"
    assert captioner.models[0].name == "teller"
    assert search.store == "memory 1"
    assert search.server.instance == "fake-search"
    assert search.limits.max_hits == 1000
    limits = answer.limits
    assert (limits.max_items, limits.max_image_bytes, limits.max_metadata_bytes) == (256, 10 << 20, 65536)
    assert (limits.max_caption_tokens, limits.max_hits, list(limits.uri_schemes)) == (100, 1000, [])
    assert limits.max_labels == 10_000
    assert answer.server.memory_bytes > 0


async def test_a_replica_that_is_gone_is_told_as_unreachable(mesh: Mesh) -> None:
    await mesh.host(mesh.captioner).kill()
    answer = await status(mesh)
    [captioner] = [service for service in answer.services if "Captioner" in service.name]
    assert captioner.health == router_pb2.HEALTH_UNREACHABLE
    assert captioner.address == mesh.host(mesh.captioner).address
    assert captioner.reason
    assert not captioner.HasField("server")
    assert {service.health for service in answer.services if service is not captioner} >= {router_pb2.HEALTH_SERVING}
    await mesh.host(mesh.captioner).start()
    again = await status(mesh)
    assert {service.health for service in again.services} == {router_pb2.HEALTH_SERVING}


async def test_a_sick_replica_answers_and_says_why(mesh: Mesh) -> None:
    runtime = mesh.host(mesh.encoder).runtime
    assert runtime is not None
    runtime.health.not_serving(ENCODER, "the canary died")
    [encoder] = [service for service in (await status(mesh)).services if service.name == ENCODER]
    assert encoder.health == router_pb2.HEALTH_NOT_SERVING
    assert encoder.reason
    assert encoder.models[0].name == "fake"
    runtime.health.serving(ENCODER)
    [encoder] = [service for service in (await status(mesh)).services if service.name == ENCODER]
    assert encoder.health == router_pb2.HEALTH_SERVING


async def test_a_name_that_does_not_resolve(unstarted: Mesh) -> None:
    mesh = await unstarted.start(encoder_targets="no-such-host.invalid:50051")
    [encoder] = [service for service in (await status(mesh)).services if service.name == ENCODER]
    assert encoder.health == router_pb2.HEALTH_UNREACHABLE
    assert encoder.address == "no-such-host.invalid:50051"
    assert "resolve" in encoder.reason


async def test_the_router_serves_whatever_happens_behind_it(mesh: Mesh) -> None:
    for fake in (mesh.encoder, mesh.captioner, mesh.search):
        await mesh.host(fake).kill()
    health = health_pb2_grpc.HealthStub(mesh.channel)
    for name in ("", "lensmesh.router.v1.RouterService", ENCODER):
        answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    services = (await status(mesh)).services
    assert {service.health for service in services} == {router_pb2.HEALTH_UNREACHABLE}
