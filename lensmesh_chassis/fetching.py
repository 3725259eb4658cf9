"""Pictures by address: fetched only where a setting names the scheme, and never from inside the network.

A caller who can make a server fetch an address can make it knock on doors that are open to the server alone
(CWE-918). An allow-list of names does not help against a name that resolves to something private, nor against a
redirect. So every hop is resolved here, each resolved address is judged, and the connection goes to the judged
address, not to the name again.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field, field_validator

from lensmesh_chassis.errors import InvalidInput, LensmeshError, Unavailable
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.settings import ServiceSettings

if TYPE_CHECKING:
    import httpx2

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

MAX_URI_CHARS = 2_048
MAX_REDIRECTS = 3
# RFC 6052: an IPv4 address in the last 32 bits, reachable through the network's NAT64.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


@dataclass(frozen=True)
class FetchPolicy:
    """What may be fetched.

    `schemes` of http and https, none by default; `hosts` empty means every public host, a leading dot means all names
    below; `private` also allows addresses that are not public, for a network one trusts.
    """

    schemes: frozenset[str] = frozenset()
    hosts: frozenset[str] = frozenset()
    private: bool = False
    max_bytes: int = 20 * 1024**2
    timeout_s: float = 10.0


class FetchSettings(ServiceSettings):
    """Settings of a service that takes pictures."""

    uri_schemes: str = Field(
        default="",
        description="Schemes of Image.uri that are fetched, comma-separated: https, http. Empty: none.",
    )
    uri_hosts: str = Field(
        default="",
        description="Hosts that may be fetched from, comma-separated; .example.org means all names below. Empty: any.",
    )
    uri_private: bool = Field(
        default=False,
        description="Whether addresses inside private networks may be fetched; off where callers are not trusted.",
    )
    uri_timeout_seconds: float = Field(default=10.0, gt=0, description="Longest time to fetch one picture.")

    @field_validator("uri_schemes")
    @classmethod
    def _schemes_are_known(cls, value: str) -> str:
        if unknown := _listed(value) - {"http", "https"}:
            raise ValueError(f"{', '.join(sorted(unknown))}: only http and https can be fetched")
        return value

    def fetch_policy(self, max_bytes: int) -> FetchPolicy:
        """The policy that these settings make; `max_bytes` is the largest picture."""
        hosts = _listed(self.uri_hosts)
        return FetchPolicy(_listed(self.uri_schemes), hosts, self.uri_private, max_bytes, self.uri_timeout_seconds)


def _listed(value: str) -> frozenset[str]:
    return frozenset(part.strip().lower() for part in value.split(",") if part.strip())


def is_public(address: IPAddress) -> bool:
    """Whether an address belongs to the public internet, seen through every way of writing IPv4 in IPv6."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
    return address.is_global and not address.is_multicast


class Fetcher:
    """Fetches pictures under one policy; safe to share between calls of one event loop."""

    def __init__(self, policy: FetchPolicy) -> None:
        self._policy = policy
        self._client: httpx2.AsyncClient | None = None

    @property
    def schemes(self) -> list[str]:
        """For `Limits.uri_schemes`."""
        return sorted(self._policy.schemes)

    async def fetch(self, uri: str, field: str) -> bytes:
        """The body behind `uri`, at most `max_bytes`; `field` is the address's dotted path in the request.

        Raises InvalidInput (URI_NOT_ALLOWED: scheme, host or address; URI_FAILED: an answer that is no picture's;
        IMAGE_TOO_LARGE) and Unavailable (URI_UNREACHABLE: time-out, connection, a server's own fault).
        """
        if not self._policy.schemes:
            raise _not_allowed(
                field, f"this service fetches no addresses, send the picture's bytes in {_content(field)}"
            )
        import httpx2  # only where fetching is allowed: services that fetch nothing need no HTTP client

        try:
            async with asyncio.timeout(self._policy.timeout_s):
                return await self._follow(uri, field)
        except (TimeoutError, httpx2.TransportError, httpx2.InvalidURL) as error:
            if isinstance(error, httpx2.InvalidURL | httpx2.UnsupportedProtocol):
                raise _not_allowed(field, "it is no address: write http(s)://host/path") from None
            raise Unavailable(
                Reason.URI_UNREACHABLE,
                f"{field} could not be fetched within {self._policy.timeout_s:g} s: check it, or send the bytes",
                retry_after_s=5,
                metadata={"field": field},
            ) from None

    async def aclose(self) -> None:
        """Closes connections."""
        if self._client is not None:
            await self._client.aclose()

    async def _follow(self, uri: str, field: str) -> bytes:
        import httpx2

        url = httpx2.URL(uri) if len(uri) <= MAX_URI_CHARS else None
        if url is None:
            raise _not_allowed(field, f"it has {len(uri)} characters: use at most {MAX_URI_CHARS}")
        for _ in range(MAX_REDIRECTS + 1):
            address = await self._judge(url, field)
            outcome = await self._get(url, address, field)
            if isinstance(outcome, bytes):
                return outcome
            url = url.join(outcome)
        raise InvalidInput(
            Reason.URI_FAILED,
            f"{field} redirects more than {MAX_REDIRECTS} times: use the final address",
            field=field,
            metadata={"limit": MAX_REDIRECTS},
        )

    async def _judge(self, url: httpx2.URL, field: str) -> str:
        """The one address to connect to. Every address of the name has to pass: a name with one bad one is no good."""
        policy = self._policy
        if url.scheme not in policy.schemes:
            raise _not_allowed(field, f"the scheme is {url.scheme!r}, allowed here: {', '.join(self.schemes)}")
        if url.userinfo:
            raise _not_allowed(field, "it carries a user name or password: use an address without")
        if policy.hosts and not any(_matches(url.host, allowed) for allowed in policy.hosts):
            raise _not_allowed(field, f"the host {url.host!r} is not among those allowed here")
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(url.host, url.port or 443, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise InvalidInput(Reason.URI_FAILED, f"{field}: the host {url.host!r} is not known", field=field) from None
        addresses = [str(entry[4][0]).split("%")[0] for entry in found]
        if not policy.private and not all(is_public(ipaddress.ip_address(address)) for address in addresses):
            raise _not_allowed(field, f"the host {url.host!r} is not on the public internet")
        return addresses[0]

    async def _get(self, url: httpx2.URL, address: str, field: str) -> bytes | str:
        """One hop: the body, or where a redirect points."""
        client = self._open()
        request = client.build_request(
            "GET",
            url.copy_with(host=address),
            # What comes back counts against the limit as it is: no compression that could unpack to more.
            headers={"Host": url.netloc.decode("ascii"), "Accept": "image/*", "Accept-Encoding": "identity"},
            extensions={"sni_hostname": url.host},
        )
        response = await client.send(request, stream=True)
        try:
            if response.is_redirect:
                return str(response.headers["location"])
            if response.status_code >= 500 or response.status_code == 429:
                raise Unavailable(
                    Reason.URI_UNREACHABLE,
                    f"{field}: its server answered {response.status_code}: try again later, or send the bytes",
                    retry_after_s=5,
                    metadata={"field": field, "status": response.status_code},
                )
            if response.status_code != 200:
                raise InvalidInput(
                    Reason.URI_FAILED,
                    f"{field}: its server answered {response.status_code}: check the address",
                    field=field,
                    metadata={"status": response.status_code},
                )
            return await self._read(response, field)
        finally:
            await response.aclose()

    async def _read(self, response: httpx2.Response, field: str) -> bytes:
        body = bytearray()
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > self._policy.max_bytes:
                raise InvalidInput(
                    Reason.IMAGE_TOO_LARGE,
                    f"{field} has more than {self._policy.max_bytes} bytes: use a smaller file",
                    field=field,
                    metadata={"limit": self._policy.max_bytes},
                )
        return bytes(body)

    def _open(self) -> httpx2.AsyncClient:
        import httpx2

        if self._client is None:
            # Proxies of the environment would resolve the name themselves, unjudged.
            self._client = httpx2.AsyncClient(trust_env=False, timeout=self._policy.timeout_s, follow_redirects=False)
        return self._client


def _matches(host: str, allowed: str) -> bool:
    return host == allowed or (allowed.startswith(".") and host.endswith(allowed))


def _content(field: str) -> str:
    return field.removesuffix("uri") + "content"


def _not_allowed(field: str, why: str) -> LensmeshError:
    return InvalidInput(Reason.URI_NOT_ALLOWED, f"{field}: {why}", field=field)
