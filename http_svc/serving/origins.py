"""Who may ask from a browser: names of hosts, and origins of pages."""

import ipaddress
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from lensmesh_chassis.errors import PermissionDenied
from lensmesh_chassis.process.addresses import ListenAddress
from lensmesh_chassis.reasons import Reason

ANY = "*"
# They change nothing, here as in HTTP.
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "WEBSOCKET"})


def parse_origins(text: str) -> tuple[str, ...]:
    """Read a comma-separated list of origins. Raises ValueError whose text says what is expected."""
    found = tuple(part.strip().rstrip("/").lower() for part in text.split(",") if part.strip())
    for origin in found:
        parts = urlsplit(origin)
        if origin != ANY and (parts.scheme not in ("http", "https") or not parts.hostname or parts.path or parts.query):
            raise ValueError(f"{origin!r} is no origin: write scheme://host or scheme://host:port, or * for any")
    return found


def parse_hosts(text: str) -> tuple[str, ...]:
    """Read a comma-separated list of host names. Raises ValueError whose text says what is expected."""
    found = tuple(part.strip().rstrip(".").lower() for part in text.split(",") if part.strip())
    for host in found:
        if host == ANY:
            continue
        if not host.removeprefix("*.") or any(sign in host.removeprefix("*.") for sign in "*/:@ "):
            raise ValueError(
                f"{host!r} is no host name: write search.example.org, *.example.org for all below it, or * for any"
            )
    return found


class Origins:
    """Decides about the `Host` and `Origin` of requests.

    A browser sends a page's requests to this machine whatever page it is, and a name that was bound to this machine
    makes them look like the door's own (DNS rebinding). So names are checked, and what a page of another origin asks
    for is refused unless it is allowed. Programs send no Origin and are not asked.
    """

    def __init__(self, origins: str, hosts: str, listens: Sequence[ListenAddress]) -> None:
        self.allowed = parse_origins(origins)
        self._hosts = parse_hosts(hosts)
        loopback = all(address.path or _is_loopback(address.host) for address in listens)
        self._any_host = ANY in self._hosts or (not self._hosts and not loopback)

    def allows(self, origin: str) -> bool:
        """Tell whether pages of this origin may call although another server sent them."""
        return ANY in self.allowed or origin.lower() in self.allowed

    def check(self, header: Callable[[bytes], str], method: str) -> None:
        """Check one request. Raises PermissionDenied, with the setting that would allow it."""
        host = header(b"host")
        if not self._is_known(_name(host)):
            raise PermissionDenied(
                Reason.CALLER_NOT_ALLOWED,
                f"the host name {_name(host)[:100]!r} is none that this server answers to: call it by its address, "
                "or name it in LENSMESH_HTTP_HOSTS",
            )
        origin = header(b"origin")
        if origin:
            if not self._is_own(origin, host) and not self.allows(origin):
                raise _foreign(origin)
            return
        site, mode = header(b"sec-fetch-site"), header(b"sec-fetch-mode")
        if method not in _SAFE_METHODS:
            if site in ("cross-site", "same-site"):
                raise _foreign("another origin")
        elif site == "cross-site" and mode not in ("navigate", ""):
            # Images and the like, which carry no Origin, but would show a stranger's page what is stored here.
            raise _foreign("another site")

    def _is_known(self, name: str) -> bool:
        if self._any_host or name == "localhost" or name.endswith(".localhost") or not name or _is_address(name):
            return True
        return any(
            name.endswith(host[1:]) and name != host[2:] if host.startswith("*.") else name == host
            for host in self._hosts
        )

    @staticmethod
    def _is_own(origin: str, host: str) -> bool:
        # A proxy that ends TLS leaves the name as it was, and not always the port's scheme: names and ports decide.
        return origin.partition("://")[2].lower() == host.lower()


def _foreign(origin: str) -> PermissionDenied:
    return PermissionDenied(
        Reason.CALLER_NOT_ALLOWED,
        f"pages of {origin[:200]} may not call this server: name their origin in LENSMESH_HTTP_ORIGINS",
    )


def _name(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].rstrip(".").lower()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)
