"""The services behind are called with TLS, each replica under the name that it is certified for."""

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from lensmesh.router.v1 import router_pb2
from tests.router.conftest import Mesh
from tests.router.helpers import item


def certificate(folder: Path, host: str) -> tuple[str, str]:
    """Files of a certificate for one host name, signed by itself, and of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    files = folder / "own.pem", folder / "own.key"
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return str(files[0]), str(files[1])


async def test_services_behind_tls(unstarted: Mesh, tmp_path: Path) -> None:
    chain, key = certificate(tmp_path, "localhost")
    unstarted.host_settings = {"tls_certificate_file": chain, "tls_key_file": key}
    unstarted.host_name = "localhost"
    mesh = await unstarted.start(peer_ca_file=chain)
    status = await mesh.router.GetStatus(router_pb2.GetStatusRequest())
    assert {service.health for service in status.services} == {router_pb2.HEALTH_SERVING}
    assert {service.address.rpartition(":")[0] for service in status.services} == {"127.0.0.1"}
    assert (await mesh.ingest(item("a")))["a"].HasField("item")


async def test_a_certificate_for_another_name_is_not_trusted(unstarted: Mesh, tmp_path: Path) -> None:
    chain, key = certificate(tmp_path, "elsewhere")
    unstarted.host_settings = {"tls_certificate_file": chain, "tls_key_file": key}
    unstarted.host_name = "localhost"
    mesh = await unstarted.start(peer_ca_file=chain)
    status = await mesh.router.GetStatus(router_pb2.GetStatusRequest())
    assert {service.health for service in status.services} == {router_pb2.HEALTH_UNREACHABLE}
