"""TLS and mutual TLS of a service itself: who gets in, who does not, and a certificate that changes."""

import asyncio
import ssl
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lensmesh_chassis.channels import OWN_CONNECTIONS, ChannelSecurity, open_channel
from lensmesh_chassis.errors import PermissionDenied
from lensmesh_chassis.process.server import running
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import from_rpc_error
from lensmesh_chassis.tls.credentials import peer_security
from lensmesh_local.sidecars.certificates import Authority, Files
from tests.chassis.mutual_tls import mutual, shows
from tests.support.every_shape import FakeApp, call, finish, settings

ROUTER, ENCODER = "spiffe://lensmesh.local/ns/a/sa/router", "spiffe://lensmesh.local/ns/a/sa/encoder"


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def stranger() -> Authority:
    return Authority("somebody else")


async def answers(address: str, security: ChannelSecurity | None) -> bool:
    async with open_channel(address, security=security) as channel:
        rpc = call(channel, "UnaryUnary", timeout=30)
        code = await rpc.code()
    assert code in {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
    return bool(code is grpc.StatusCode.OK)


async def test_tls(authority: Authority, stranger: Authority, tmp_path: Path) -> None:
    files, other = authority.issue(tmp_path / "a", ""), stranger.issue(tmp_path / "b", "")
    chosen = settings(tls_certificate_file=str(files.certificate), tls_key_file=str(files.key))
    async with running(chosen, FakeApp, "fake") as server:
        assert await answers(server.address, ChannelSecurity(ca_file=str(files.ca)))
        assert not await answers(server.address, ChannelSecurity(ca_file=str(other.ca)))
        assert not await answers(server.address, None)


async def test_mutual_tls(authority: Authority, stranger: Authority, tmp_path: Path) -> None:
    own, client = authority.issue(tmp_path / "own", ""), authority.issue(tmp_path / "client", "")
    wrong = stranger.issue(tmp_path / "wrong", "")
    chosen = mutual(
        own,
        listen=f"127.0.0.1:0,unix:{tmp_path}/s",
        health_listen="127.0.0.1:0",
        peer_ca_file=str(own.ca),
        peer_certificate_file=str(client.certificate),
        peer_key_file=str(client.key),
    )
    async with running(chosen, FakeApp, "fake") as server:
        assert await answers(server.address, peer_security(chosen))
        assert not await answers(server.address, ChannelSecurity(ca_file=str(own.ca)))
        assert not await answers(server.address, shows(wrong, own.ca))
        # The socket's folder guards it, and probes need no certificate.
        assert await answers(server.addresses[1], None)
        async with grpc.aio.insecure_channel(server.health_address, [OWN_CONNECTIONS]) as channel:
            health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=30)
            assert health.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("method", ["UnaryUnary", "UnaryStream", "StreamUnary", "StreamStream"])
async def test_an_identity_that_is_not_let_in(authority: Authority, tmp_path: Path, method: str) -> None:
    own = authority.issue(tmp_path / "own", ENCODER)
    router, other = authority.issue(tmp_path / "r", ROUTER), authority.issue(tmp_path / "e", ENCODER)
    nobody = authority.issue(tmp_path / "n", "")
    chosen = mutual(own, tls_client_ids="spiffe://elsewhere/x, spiffe://lensmesh.local/ns/*/sa/router")
    async with running(chosen, FakeApp, "fake") as server:
        async with open_channel(server.address, security=shows(router)) as channel:
            assert await finish(call(channel, method, timeout=60))
        for files, told in ((other, f"the certificate of {ENCODER} may not"), (nobody, "without a SPIFFE id may not")):
            async with open_channel(server.address, security=shows(files)) as channel:
                with pytest.raises(grpc.RpcError) as caught:
                    await finish(call(channel, method, timeout=60))
                error = from_rpc_error(caught.value)
                assert isinstance(error, PermissionDenied)
                assert error.reason is Reason.CALLER_NOT_ALLOWED
                assert told in error.message
                assert "tls_client_ids" in error.message
                # What balances and probes is not who calls.
                health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=60)
                assert health.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_unix_socket_knows_no_identities(authority: Authority, tmp_path: Path) -> None:
    chosen = mutual(
        authority.issue(tmp_path / "own", ENCODER), tls_client_ids=ROUTER, listen=f"127.0.0.1:0,unix:{tmp_path}/s"
    )
    async with running(chosen, FakeApp, "fake") as server:
        assert await answers(server.addresses[1], None)


async def serial(address: str, client: Files) -> int:
    """Number of the certificate that a new connection is shown."""

    def handshake() -> int:
        import socket

        context = ssl.create_default_context(cafile=str(client.ca))
        context.load_cert_chain(client.certificate, client.key)
        context.set_alpn_protocols(["h2"])
        host, _, port = address.rpartition(":")
        with (
            socket.create_connection((host, int(port)), timeout=60) as plain,
            context.wrap_socket(plain, server_hostname=host) as secure,
        ):
            return int((secure.getpeercert() or {})["serialNumber"], 16)  # type: ignore[arg-type] # a text, always

    return await asyncio.to_thread(handshake)


async def test_a_changed_certificate_is_taken_up_without_a_restart(authority: Authority, tmp_path: Path) -> None:
    own, client = authority.issue(tmp_path / "own", ENCODER), authority.issue(tmp_path / "client", ROUTER)
    async with (
        running(mutual(own), FakeApp, "fake") as server,
        open_channel(server.address, security=shows(client)) as channel,
    ):
        assert await call(channel, "UnaryUnary", timeout=60).code() is grpc.StatusCode.OK
        first = await serial(server.address, client)
        authority.issue(own.folder, ENCODER)
        second = await serial(server.address, client)
        assert second != first
        # The connection of before goes on, and new ones are made.
        assert await call(channel, "UnaryUnary", timeout=60).code() is grpc.StatusCode.OK
        assert await answers(server.address, shows(client))


async def test_a_changed_certificate_that_does_not_fit_is_not_taken_up(
    authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own, client = authority.issue(tmp_path / "own", ENCODER), authority.issue(tmp_path / "client", ROUTER)
    async with running(mutual(own), FakeApp, "fake") as server:
        first = await serial(server.address, client)
        whole = own.key.read_bytes()
        own.key.write_bytes(client.key.read_bytes())
        assert await serial(server.address, client) == first
        assert await answers(server.address, shows(client))
        assert sum("the old ones stay in use" in record.message for record in caplog.records) == 1
        own.key.write_bytes(whole)
        authority.issue(own.folder, ENCODER)
        assert await serial(server.address, client) != first


async def test_a_new_authority_is_trusted_beside_the_old_one(
    authority: Authority, stranger: Authority, tmp_path: Path
) -> None:
    own, client = authority.issue(tmp_path / "own", ""), stranger.issue(tmp_path / "client", "")
    async with running(mutual(own), FakeApp, "fake") as server:
        assert not await answers(server.address, shows(client, own.ca))
        authority.issue(own.folder, "", also_trust=stranger.pem)
        assert await answers(server.address, shows(client, own.ca))
