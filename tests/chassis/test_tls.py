"""TLS and mutual TLS: who gets in, who does not, and which file is wrong."""

from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lensmesh_chassis.channels import ChannelSecurity, open_channel
from lensmesh_chassis.credentials import peer_security
from lensmesh_chassis.errors import PreconditionFailed
from lensmesh_chassis.server import running
from tests.certificates import Authority
from tests.chassis.fakes import FakeApp, call, settings


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca", "lensmesh test")


@pytest.fixture
def stranger(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "other", "somebody else")


async def answers(address: str, security: ChannelSecurity | None) -> bool:
    async with open_channel(address, security=security) as channel:
        rpc = call(channel, "UnaryUnary", timeout=30)
        code = await rpc.code()
    assert code in {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
    return bool(code is grpc.StatusCode.OK)


async def test_tls(authority: Authority, stranger: Authority) -> None:
    pair = authority.issue("server")
    chosen = settings(tls_certificate_file=pair.certificate, tls_key_file=pair.key)
    async with running(chosen, FakeApp, "fake") as server:
        assert await answers(server.address, ChannelSecurity(ca_file=authority.file))
        assert not await answers(server.address, ChannelSecurity(ca_file=stranger.file))
        assert not await answers(server.address, None)


async def test_mutual_tls(authority: Authority, stranger: Authority, tmp_path: Path) -> None:
    pair, client, wrong = authority.issue("server"), authority.issue("client"), stranger.issue("client")
    chosen = settings(
        listen=f"127.0.0.1:0,unix:{tmp_path}/s",
        health_listen="127.0.0.1:0",
        tls_certificate_file=pair.certificate,
        tls_key_file=pair.key,
        tls_client_ca_file=authority.file,
        peer_ca_file=authority.file,
        peer_certificate_file=client.certificate,
        peer_key_file=client.key,
    )
    async with running(chosen, FakeApp, "fake") as server:
        assert await answers(server.address, peer_security(chosen))
        assert not await answers(server.address, ChannelSecurity(ca_file=authority.file))
        assert not await answers(
            server.address, ChannelSecurity(authority.file, certificate_file=wrong.certificate, key_file=wrong.key)
        )
        # The socket's folder guards it, and probes need no certificate.
        assert await answers(server.addresses[1], None)
        async with grpc.aio.insecure_channel(server.health_address) as channel:
            health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=30)
            assert health.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_file_that_cannot_be_used_is_named(authority: Authority, tmp_path: Path) -> None:
    pair = authority.issue("server")
    junk = tmp_path / "junk.pem"
    junk.write_text("no certificate")
    for certificate, key, told in (
        (str(tmp_path / "gone.pem"), pair.key, r"tls_certificate_file .*gone\.pem"),
        (str(junk), pair.key, "no PEM file"),
        (pair.certificate, str(tmp_path), "tls_key_file"),
    ):
        with pytest.raises(PreconditionFailed, match=told):
            async with running(settings(tls_certificate_file=certificate, tls_key_file=key), FakeApp, "fake"):
                raise AssertionError("it must not start")


async def test_a_key_of_another_certificate_is_refused(authority: Authority) -> None:
    one, other = authority.issue("one"), authority.issue("other")
    with pytest.raises(PreconditionFailed, match="do not belong together"):
        async with running(settings(tls_certificate_file=one.certificate, tls_key_file=other.key), FakeApp, "fake"):
            raise AssertionError("it must not start")


async def test_a_client_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(PreconditionFailed, match=r"ca_file .*gone\.pem"):
        open_channel("127.0.0.1:1", security=ChannelSecurity(ca_file=str(tmp_path / "gone.pem")))
