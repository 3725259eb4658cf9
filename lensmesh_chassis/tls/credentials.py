"""TLS and mutual TLS by PEM files, for servers and for channels."""

import logging
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from lensmesh_chassis.errors import PreconditionFailed
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.tls.certificates import validity

_log = logging.getLogger(__name__)

if TYPE_CHECKING:  # a client that opens channels needs no settings classes, nor what they are made with
    from lensmesh_chassis.settings import ServiceSettings


@dataclass(frozen=True)
class ChannelSecurity:
    """Security of a channel, by PEM files; all empty: plain text.

    `ca_file` holds the authorities that may sign the server's certificate (empty with a certificate set: the system's).
    `certificate_file` and `key_file` are shown to a server that asks who calls (mutual TLS).
    """

    ca_file: str = ""
    certificate_file: str = ""
    key_file: str = ""

    @property
    def encrypted(self) -> bool:
        """True where anything is set."""
        return bool(self.ca_file or self.certificate_file)


def peer_security(settings: "ServiceSettings") -> ChannelSecurity:
    """Return how this service secures the channels to the services it calls."""
    return ChannelSecurity(settings.peer_ca_file, settings.peer_certificate_file, settings.peer_key_file)


def server_credentials(settings: "ServiceSettings") -> grpc.ServerCredentials | None:
    """Build credentials from the settings' tls_ files, read again when they change. Return None for plain text.

    Raises PreconditionFailed for files that cannot be used now.
    """
    if not settings.tls_certificate_file:
        return None
    files = _ServerFiles(settings)
    return grpc.dynamic_ssl_server_credentials(
        files.read(), files.changed, require_client_authentication=bool(settings.tls_client_ca_file)
    )


class _ServerFiles:
    """The certificate, its key and the authorities of clients, as the files are now."""

    def __init__(self, settings: "ServiceSettings") -> None:
        self._certificate, self._key = settings.tls_certificate_file, settings.tls_key_file
        self._ca = settings.tls_client_ca_file
        self._seen = self._stamp()

    def read(self) -> grpc.ServerCertificateConfiguration:
        """Read and check the files. Raises PreconditionFailed naming the setting and the file at fault."""
        key, chain = _read(self._key, "tls_key_file"), _read(self._certificate, "tls_certificate_file")
        _check_pair(self._certificate, self._key, "tls_certificate_file", "tls_key_file")
        _check_dates(self._certificate, chain, "tls_certificate_file")
        ca = _read(self._ca, "tls_client_ca_file") if self._ca else None
        return grpc.ssl_server_certificate_configuration([(key, chain)], ca)

    def changed(self) -> Any:
        """Return a new configuration, or None where nothing changed.

        gRPC calls this in a thread of its own, before each handshake.

        Files that do not fit together are not used: the old ones stay in use, and the next change is looked at again.
        """
        stamp = self._stamp()
        if stamp == self._seen:
            return None
        self._seen = stamp
        try:
            fresh = self.read()
        except PreconditionFailed as error:
            _log.warning(
                "the TLS files changed and cannot be used; the old ones stay in use", extra={"why": error.message}
            )
            return None
        _log.info("the TLS files changed", extra={"certificate": self._certificate})
        return fresh

    def _stamp(self) -> tuple[tuple[int, int, int], ...]:
        return tuple(file_stamp(name) for name in (self._certificate, self._key, self._ca) if name)


def file_stamp(name: str) -> tuple[int, int, int]:
    """Return what changes when a file does; zeros where there is none."""
    try:
        facts = Path(name).stat()
    except OSError:
        return (0, 0, 0)
    return (facts.st_ino, facts.st_mtime_ns, facts.st_size)


def channel_credentials(security: ChannelSecurity) -> grpc.ChannelCredentials:
    """Build the credentials of an encrypted channel. Raises PreconditionFailed for a file that cannot be read."""
    ca = _read(security.ca_file, "ca_file") if security.ca_file else None
    if not security.certificate_file:
        return grpc.ssl_channel_credentials(ca)
    key, chain = _read(security.key_file, "key_file"), _read(security.certificate_file, "certificate_file")
    _check_pair(security.certificate_file, security.key_file, "certificate_file", "key_file")
    _check_dates(security.certificate_file, chain, "certificate_file")
    return grpc.ssl_channel_credentials(ca, key, chain)


def _check_pair(certificate: str, key: str, *names: str) -> None:
    """Check that the key belongs to the certificate: gRPC itself says only that it could not listen, or connect."""
    try:
        # An empty password: asking for one on the terminal would hang a service.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        raise PreconditionFailed(
            Reason.OPTION_INVALID,
            f"{names[0]} {certificate!r} and {names[1]} {key!r} do not belong together or cannot be used "
            f"({error.reason})",
            metadata={"certificate": certificate, "key": key},
        ) from error


def _check_dates(file: str, pem: bytes, setting: str) -> None:
    """Check that the certificate is valid now. The other side would refuse it, and this one would not hear why."""
    try:
        found = validity(pem)
    except ValueError as error:
        raise PreconditionFailed(
            Reason.OPTION_INVALID, f"{setting} {file!r} holds no certificate: {error}", metadata={"file": file}
        ) from error
    now = datetime.now(UTC)
    if found.begin <= now <= found.end:
        return
    when = (
        f"expired on {found.end:%Y-%m-%d %H:%M} UTC"
        if now > found.end
        else (f"is not valid before {found.begin:%Y-%m-%d %H:%M} UTC")
    )
    raise PreconditionFailed(
        Reason.OPTION_INVALID,
        f"{setting} {file!r} {when}, and now it is {now:%Y-%m-%d %H:%M}: renew the certificate, or correct the clock",
        metadata={"file": file, "begin": found.begin.isoformat(), "end": found.end.isoformat()},
    )


def _read(path: str, setting: str) -> bytes:
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise PreconditionFailed(
            Reason.OPTION_INVALID, f"{setting} {path!r} cannot be read: {error.strerror}", metadata={"file": path}
        ) from error
    if b"-----BEGIN " not in content:
        raise PreconditionFailed(
            Reason.OPTION_INVALID, f"{setting} {path!r} is no PEM file (no BEGIN line)", metadata={"file": path}
        )
    return content
