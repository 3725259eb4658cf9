"""Settings of servers and channels that show certificates to one another."""

from pathlib import Path

from lensmesh_chassis.channels import ChannelSecurity
from lensmesh_chassis.settings import ServiceSettings
from lensmesh_local.sidecars.certificates import Files
from tests.support.every_shape import settings


def shows(files: Files, ca: Path | None = None) -> ChannelSecurity:
    """A client with that certificate."""
    return ChannelSecurity(str(ca or files.ca), str(files.certificate), str(files.key))


def mutual(files: Files, **more: str) -> ServiceSettings:
    """A server that asks for a certificate of the same authority."""
    return settings(
        tls_certificate_file=str(files.certificate),
        tls_key_file=str(files.key),
        tls_client_ca_file=str(files.ca),
        **more,
    )
