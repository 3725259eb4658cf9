"""The certificate that the door shows, as its files are now."""

import asyncio
import ssl

from http_svc.settings import HttpSettings
from lensmesh_chassis.errors import PreconditionFailed
from lensmesh_chassis.telemetry.logging import get_logger
from lensmesh_chassis.tls.credentials import file_stamp, server_credentials

_log = get_logger(__name__)

LOOK_SECONDS = 5.0
"""Pause between two looks at the files: certificates are renewed long before they end."""


class ServerCertificate:
    """An SSL context of the tls_ files. Connections made after `follow` saw a change meet the new files."""

    def __init__(self, settings: HttpSettings) -> None:
        self._settings = settings
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(["http/1.1"])
        if settings.tls_client_ca_file:
            self.context.verify_mode = ssl.CERT_REQUIRED
        self._load()

    def _load(self) -> None:
        settings = self._settings
        # The checks of the other services: of the files, of the pair and of the dates.
        server_credentials(settings)
        self.context.load_cert_chain(settings.tls_certificate_file, settings.tls_key_file, password="")
        if settings.tls_client_ca_file:
            self.context.load_verify_locations(settings.tls_client_ca_file)

    async def follow(self) -> None:
        """Load the files again whenever they change, until cancelled. What cannot be used is not: the old ones stay."""
        seen = self._stamp()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if (stamp := self._stamp()) == seen:
                continue
            seen = stamp
            try:
                self._load()
            except (PreconditionFailed, ssl.SSLError, OSError) as error:
                _log.warning("the TLS files changed and cannot be used; the old ones stay in use", why=str(error))
            else:
                _log.info("the TLS files changed", certificate=self._settings.tls_certificate_file)

    def _stamp(self) -> tuple[tuple[int, int, int], ...]:
        settings = self._settings
        names = (settings.tls_certificate_file, settings.tls_key_file, settings.tls_client_ca_file)
        return tuple(file_stamp(name) for name in names if name)
