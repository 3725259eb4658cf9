"""A certificate authority of our own and certificates with SPIFFE identities, in files that are swapped in one step.

For one machine and for tests. In a cluster cert-manager or SPIRE does this; Envoy sees the same files either way.
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lensmesh_local.sidecars.secrets import CA_FILE, CERTIFICATE_FILE, KEY_FILE

LEAF_LIFE = datetime.timedelta(days=7)
AUTHORITY_LIFE = datetime.timedelta(days=3650)
# Clocks of two machines differ.
_EARLIER = datetime.timedelta(minutes=5)
_DATA = "..data"


@dataclass(frozen=True, slots=True)
class Files:
    """Paths of one identity's files."""

    folder: Path

    @property
    def certificate(self) -> Path:
        """File with the PEM chain."""
        return self.folder / CERTIFICATE_FILE

    @property
    def key(self) -> Path:
        """File with the PEM private key."""
        return self.folder / KEY_FILE

    @property
    def ca(self) -> Path:
        """File with the PEM certificates of the authority."""
        return self.folder / CA_FILE


class Authority:
    """Signer of certificates. Its own key stays in this process's memory: a new process is a new authority."""

    def __init__(self, name: str = "lensmesh local authority") -> None:
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.now(datetime.UTC)
        builder = _builder(self._name, self._name, self._key.public_key(), now - _EARLIER, now + AUTHORITY_LIFE)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_usage(signs=True), critical=True)
        builder = builder.add_extension(
            x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False
        )
        self.certificate = builder.sign(self._key, hashes.SHA256())

    @property
    def pem(self) -> bytes:
        """The authority's certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def issue(
        self,
        folder: Path,
        identity: str,
        *,
        names: Sequence[str] = ("localhost", "127.0.0.1"),
        life: datetime.timedelta = LEAF_LIFE,
        also_trust: bytes = b"",
    ) -> Files:
        """Write a fresh certificate and key for `identity` (a SPIFFE id, "" for none) into `folder`, in one step.

        `names`: hosts and addresses that it is valid for besides, for clients that check where they connected to.
        `life` may be negative, for a certificate that has expired. `also_trust`: more authorities in PEM for ca.crt, as
        while one authority takes over from another.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.now(datetime.UTC)
        begin = min(now - _EARLIER, now + life - _EARLIER)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, identity.rpartition("/")[2] or "lensmesh")])
        uri = [x509.UniformResourceIdentifier(identity)] if identity else []
        sans: list[x509.GeneralName] = [*uri, *map(_host, names)]
        builder = _builder(subject, self._name, key.public_key(), begin, now + life)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_usage(signs=False), critical=True)
        both = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        builder = builder.add_extension(both, critical=False)
        signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = builder.add_extension(signer, critical=False)
        builder = builder.add_extension(x509.SubjectAlternativeName(sans), critical=False)
        leaf = builder.sign(self._key, hashes.SHA256())
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        swap(
            folder,
            {
                CERTIFICATE_FILE: leaf.public_bytes(serialization.Encoding.PEM),
                KEY_FILE: secret,
                CA_FILE: self.pem + also_trust,
            },
        )
        return Files(folder)


def swap(folder: Path, files: dict[str, bytes]) -> None:
    """Replace all of `files` at once: a link to their folder is moved, as Kubernetes does with a mounted secret."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    link = folder / _DATA
    before = link.resolve() if link.is_symlink() else None
    number = 1 + max((int(path.name[2:]) for path in folder.glob("..[0-9]*")), default=0)
    fresh = folder / f"..{number}"
    fresh.mkdir(mode=0o700)
    for name, content in files.items():
        path = fresh / name
        path.touch(mode=0o600)
        path.write_bytes(content)
        with contextlib.suppress(FileExistsError):
            (folder / name).symlink_to(f"{_DATA}/{name}")
    draft = folder / f"{_DATA}.draft"
    draft.unlink(missing_ok=True)
    draft.symlink_to(fresh.name)
    draft.replace(link)
    if before is not None:
        shutil.rmtree(before, ignore_errors=True)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    begin: datetime.datetime,
    end: datetime.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _host(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
