"""Certificates that cannot be used: each is refused where it is named, or explained where it is met."""

import datetime
from pathlib import Path

import grpc
import pytest

from lensmesh_chassis.channels import ChannelSecurity, open_channel
from lensmesh_chassis.errors import PreconditionFailed, Unavailable
from lensmesh_chassis.process.server import running
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.settings import ServiceSettings
from lensmesh_chassis.tls.certificates import validity
from lensmesh_client import Client
from lensmesh_local.sidecars.certificates import Authority, Files
from tests.chassis.mutual_tls import mutual, shows
from tests.support.every_shape import FakeApp, settings

pytestmark = pytest.mark.both_loops

HOUR = datetime.timedelta(hours=1)


@pytest.fixture
def authority() -> Authority:
    return Authority()


async def refused(chosen: ServiceSettings) -> str:
    """What a server says that does not start."""
    with pytest.raises(PreconditionFailed) as caught:
        async with running(chosen, FakeApp, "fake"):
            raise AssertionError("it must not start")
    return caught.value.message


def own(files: Files, **changes: str) -> ServiceSettings:
    return settings(**({"tls_certificate_file": str(files.certificate), "tls_key_file": str(files.key)} | changes))


async def test_a_file_that_cannot_be_used_is_named(authority: Authority, tmp_path: Path) -> None:
    files = authority.issue(tmp_path / "own", "")
    junk, hollow = tmp_path / "junk.pem", tmp_path / "hollow.pem"
    junk.write_text("no certificate")
    hollow.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    gone = str(tmp_path / "gone.pem")
    assert f"tls_certificate_file '{gone}' cannot be read" in await refused(own(files, tls_certificate_file=gone))
    assert "no PEM file" in await refused(own(files, tls_certificate_file=str(junk)))
    assert "hollow.pem" in await refused(own(files, tls_certificate_file=str(hollow)))
    assert "tls_key_file" in await refused(own(files, tls_key_file=str(tmp_path)))
    assert f"tls_client_ca_file '{gone}'" in await refused(own(files, tls_client_ca_file=gone))


async def test_a_key_of_another_certificate(authority: Authority, tmp_path: Path) -> None:
    one, other = authority.issue(tmp_path / "one", ""), authority.issue(tmp_path / "other", "")
    assert "do not belong together" in await refused(own(one, tls_key_file=str(other.key)))


async def test_a_certificate_that_has_expired(authority: Authority, tmp_path: Path) -> None:
    files = authority.issue(tmp_path / "old", "", life=-HOUR)
    end = validity(files.certificate.read_bytes()).end
    told = await refused(own(files))
    assert f"tls_certificate_file '{files.certificate}' expired on {end:%Y-%m-%d %H:%M} UTC" in told
    assert "renew" in told
    with pytest.raises(PreconditionFailed, match=r"^certificate_file .* expired on"):
        open_channel("127.0.0.1:1", security=shows(files))


def test_a_client_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(PreconditionFailed, match=r"ca_file .*gone\.pem"):
        open_channel("127.0.0.1:1", security=ChannelSecurity(ca_file=str(tmp_path / "gone.pem")))


async def met(address: str, security: ChannelSecurity | None) -> Unavailable:
    """What the client says."""
    async with Client(address, security=security, timeout_s=60) as client:
        with pytest.raises(Unavailable) as caught:
            await client.status()
    return caught.value


async def test_what_a_client_finds_wrong_with_a_server(authority: Authority, tmp_path: Path) -> None:
    files = authority.issue(tmp_path / "own", "")
    elsewhere = authority.issue(tmp_path / "elsewhere", "", names=["elsewhere"])
    other = Authority("somebody else").issue(tmp_path / "other", "")
    async with running(own(files), FakeApp, "fake") as server:
        error = await met(server.address, ChannelSecurity(ca_file=str(other.ca)))
        assert error.reason is Reason.TLS_FAILED
        assert f"not signed by an authority of ca_file '{other.ca}'" in error.message
        assert "give the file of its authority as ca_file" in (await met(server.address, None)).message
        # gRPC's own words are kept for who wants them.
        assert "CERTIFICATE_VERIFY_FAILED" in error.metadata["details"]
    async with running(own(elsewhere), FakeApp, "fake") as server:
        error = await met(server.address, ChannelSecurity(ca_file=str(files.ca)))
        assert error.reason is Reason.TLS_FAILED
        assert "not made for the name or address" in error.message
    async with running(settings(), FakeApp, "fake") as server:
        error = await met(server.address, ChannelSecurity(ca_file=str(files.ca)))
        assert error.reason is Reason.TLS_FAILED
        assert "the server speaks plain text" in error.message


async def test_a_server_whose_certificate_has_expired_while_it_served(authority: Authority, tmp_path: Path) -> None:
    """A bare gRPC server: one of the chassis' would not start with it."""
    files = authority.issue(tmp_path / "own", "", life=-HOUR)
    server = grpc.aio.server()
    pair = (files.key.read_bytes(), files.certificate.read_bytes())
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    await server.start()
    error = await met(f"127.0.0.1:{port}", ChannelSecurity(ca_file=str(files.ca)))
    await server.stop(0)
    assert error.reason is Reason.TLS_FAILED
    assert "the server's certificate has expired: renew it there" in error.message


async def test_what_a_refused_client_is_told(authority: Authority, tmp_path: Path) -> None:
    """The server's log knows more; the connection only closes."""
    files = authority.issue(tmp_path / "own", "")
    wrong = Authority("somebody else").issue(tmp_path / "wrong", "")
    async with running(mutual(files), FakeApp, "fake") as server:
        error = await met(server.address, ChannelSecurity(ca_file=str(files.ca)))
        assert "give certificate_file and key_file" in error.message
        error = await met(server.address, shows(wrong, files.ca))
        assert f"It may refuse the certificate '{wrong.certificate}'" in error.message


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"tls_client_ids": "spiffe://a/b"}, "tls_client_ids needs tls_client_ca_file"),
        ({"tls_client_ids": "router"}, "'router' is no SPIFFE id: write spiffe://DOMAIN/PATH"),
        ({"tls_certificate_file": "x"}, "belong together"),
        ({"tls_client_ca_file": "x"}, "tls_client_ca_file needs tls_certificate_file"),
    ],
)
def test_settings_that_do_not_fit_together(changes: dict[str, str], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        settings(**changes)


def test_dates_are_read_from_any_certificate(tmp_path: Path) -> None:
    """Compared with what the cryptography package reads: dates before and after 2050 are written differently."""
    from cryptography import x509

    for days in (1, 40_000):
        files = Authority().issue(tmp_path / str(days), "", life=datetime.timedelta(days=days))
        pem = files.certificate.read_bytes()
        read = x509.load_pem_x509_certificate(pem)
        assert (validity(pem).begin, validity(pem).end) == (read.not_valid_before_utc, read.not_valid_after_utc)
    for junk in (b"", b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----"):
        with pytest.raises(ValueError, match="it"):
            validity(junk)
