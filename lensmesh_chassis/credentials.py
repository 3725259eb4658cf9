"""TLS and mutual TLS out of PEM files, for servers and for channels."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from lensmesh_chassis.errors import PreconditionFailed
from lensmesh_chassis.reasons import Reason

if TYPE_CHECKING:  # a client that opens channels needs no settings classes, nor what they are made with
    from lensmesh_chassis.settings import ServiceSettings


@dataclass(frozen=True)
class ChannelSecurity:
    """How a channel is secured, by PEM files; all empty: plain text.

    `ca_file` signs the server (empty with a certificate set: the system's authorities); `certificate_file` and
    `key_file` are shown to a server that asks who calls (mutual TLS).
    """

    ca_file: str = ""
    certificate_file: str = ""
    key_file: str = ""

    @property
    def encrypted(self) -> bool:
        """Whether anything is set."""
        return bool(self.ca_file or self.certificate_file)


def peer_security(settings: "ServiceSettings") -> ChannelSecurity:
    """How this service secures the channels to the services it calls."""
    return ChannelSecurity(settings.peer_ca_file, settings.peer_certificate_file, settings.peer_key_file)


def server_credentials(settings: "ServiceSettings") -> grpc.ServerCredentials | None:
    """Credentials by the settings' tls_ files; None for plain text. Raises PreconditionFailed for a file that cannot be
    read.
    """
    if not settings.tls_certificate_file:
        return None
    key = _read(settings.tls_key_file, "tls_key_file")
    chain = _read(settings.tls_certificate_file, "tls_certificate_file")
    _check_pair(settings.tls_certificate_file, settings.tls_key_file, "tls_certificate_file", "tls_key_file")
    ca = _read(settings.tls_client_ca_file, "tls_client_ca_file") if settings.tls_client_ca_file else None
    return grpc.ssl_server_credentials([(key, chain)], root_certificates=ca, require_client_auth=ca is not None)


def channel_credentials(security: ChannelSecurity) -> grpc.ChannelCredentials:
    """Credentials of an encrypted channel. Raises PreconditionFailed for a file that cannot be read."""
    ca = _read(security.ca_file, "ca_file") if security.ca_file else None
    if not security.certificate_file:
        return grpc.ssl_channel_credentials(ca)
    key, chain = _read(security.key_file, "key_file"), _read(security.certificate_file, "certificate_file")
    _check_pair(security.certificate_file, security.key_file, "certificate_file", "key_file")
    return grpc.ssl_channel_credentials(ca, key, chain)


def _check_pair(certificate: str, key: str, *names: str) -> None:
    """gRPC itself says no more than that it could not listen, or connect."""
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
