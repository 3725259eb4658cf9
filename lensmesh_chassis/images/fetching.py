"""Images by address: fetched only where a setting names the scheme, and never from inside the network.

A caller who can make a server fetch an address can make it knock on doors that are open to the server alone
(CWE-918). An allow-list of names does not help against a name that resolves to something private, nor against a
redirect. So every hop is resolved here, each resolved address is judged, and the connection goes to the judged
address, not to the name again. A connection serves one request: a pool would find it by that address, and give it to
another name than the one that its certificate was checked for. Nothing is kept from one fetch to the next, cookies
least of all.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NoReturn

from lensmesh_chassis.concurrency import Budget
from lensmesh_chassis.errors import InvalidInput, LensmeshError, Unavailable
from lensmesh_chassis.images.fetch_settings import FetchPolicy
from lensmesh_chassis.images.public_addresses import is_public
from lensmesh_chassis.reasons import Reason

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator

    import httpx2

MAX_URI_CHARS = 2_048
MAX_REDIRECTS = 3
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# How a body whose size nobody announced is counted: in steps, each before it is read.
_STEP_BYTES = 1024 * 1024
_PORTS = {"http": 80, "https": 443}


class Fetcher:
    """Fetches images under one policy. Calls of one event loop may share it.

    `trust` replaces the system's certificate authorities.
    """

    def __init__(self, policy: FetchPolicy, trust: ssl.SSLContext | None = None) -> None:
        self._policy = policy
        self._trust = trust
        self._transport: httpx2.AsyncHTTPTransport | None = None
        self._budget = Budget(policy.all_bytes)
        self._turns = asyncio.Semaphore(policy.parallel)

    @property
    def schemes(self) -> list[str]:
        """The allowed schemes, sorted, for `Limits.uri_schemes`."""
        return sorted(self._policy.schemes)

    @property
    def held(self) -> int:
        """Bytes of images that are fetched, or announced, and not yet dropped."""
        return self._budget.held

    @asynccontextmanager
    async def for_call(self, within_s: float | None = None) -> AsyncIterator[Fetches]:
        """Open the account of one call: its images count until the context is left.

        `within_s`: at most so many seconds for each image, where that is less than the policy's.
        """
        async with self._for(self._policy.call_bytes, within_s) as fetches:
            yield fetches

    @asynccontextmanager
    async def for_stream(self) -> AsyncIterator[Fetches]:
        """Open the account of one stream: each of its images counts until it is dropped."""
        async with self._for(None, None) as fetches:
            yield fetches

    async def fetch(self, uri: str, field: str) -> bytes:
        """Fetch one image as `Fetches.fetch` does. It no longer counts once it is returned."""
        async with self.for_call() as fetches:
            return await fetches.fetch(uri, field)

    async def aclose(self) -> None:
        """Close what is open."""
        if self._transport is not None:
            await self._transport.aclose()

    @asynccontextmanager
    async def _for(self, limit: int | None, within_s: float | None) -> AsyncIterator[Fetches]:
        fetches = Fetches(self, self._policy, self._budget, self._turns, limit, within_s)
        try:
            yield fetches
        finally:
            fetches.drop(fetches.bytes)

    async def send(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request on a connection of its own."""
        import httpx2

        if self._transport is None:
            # No client: it would keep cookies and follow what the environment says of proxies, which resolve the name
            # themselves, unjudged.
            self._transport = httpx2.AsyncHTTPTransport(
                verify=self._trust or True,
                trust_env=False,
                limits=httpx2.Limits(max_connections=None, max_keepalive_connections=0),
            )
        return await self._transport.handle_async_request(request)


class Fetches:
    """Images that one call or stream fetches. Each is counted before it is read, and until it is dropped."""

    def __init__(
        self,
        fetcher: Fetcher,
        policy: FetchPolicy,
        budget: Budget,
        turns: asyncio.Semaphore,
        limit: int | None,
        within_s: float | None,
    ) -> None:
        self._fetcher, self._policy, self._budget, self._turns = fetcher, policy, budget, turns
        self._limit = limit
        self._timeout_s = policy.timeout_s if within_s is None else min(policy.timeout_s, within_s)
        self.bytes = 0
        """Held now."""

    def drop(self, size: int) -> None:
        """Give back `size` bytes: the image they belong to is done with."""
        size = min(size, self.bytes)
        self.bytes -= size
        if size:
            self._budget.give(size)

    async def fetch(self, uri: str, field: str) -> bytes:
        """Return the body behind `uri`, at most `max_bytes`; `field` is the address's dotted path in the request.

        Raises InvalidInput (URI_NOT_ALLOWED: scheme, host or address; URI_FAILED: an answer that is no image's;
        IMAGE_TOO_LARGE; MESSAGE_TOO_LARGE: all images of the call) and Unavailable (URI_UNREACHABLE: time-out,
        connection, a server's own fault).
        """
        if not self._policy.schemes:
            raise _not_allowed(field, f"this service fetches no addresses, send the image's bytes in {_content(field)}")
        import httpx2  # only where fetching is allowed: services that fetch nothing need no HTTP client

        body = _Body(self, field)
        try:
            async with asyncio.timeout(self._timeout_s), self._turns:
                return await self._follow(uri, field, body)
        except LensmeshError:
            body.drop()
            raise
        except (httpx2.InvalidURL, httpx2.UnsupportedProtocol, ValueError):
            # ValueError: what codecs and URLs think of an address is as varied as what strangers send.
            body.drop()
            raise _not_allowed(field, "it is no address: write http(s)://host/path") from None
        except (TimeoutError, httpx2.HTTPError, httpx2.StreamError, OSError):
            body.drop()
            raise Unavailable(
                Reason.URI_UNREACHABLE,
                f"{field} could not be fetched within {self._timeout_s:.3g} s: check it, or send the bytes",
                retry_after_s=5,
                metadata={"field": field},
            ) from None
        except BaseException:
            body.drop()
            raise

    async def take(self, size: int, field: str) -> None:
        """Count `size` bytes more, when there is room. Raises InvalidInput where the call has too many."""
        if self._limit is not None and self.bytes + size > self._limit:
            raise InvalidInput(
                Reason.MESSAGE_TOO_LARGE,
                f"{field}: the images of one call are more than {self._limit} bytes together: split the call",
                field=field,
                metadata={"limit_bytes": self._limit},
            )
        # Counted for the call at once, or two of its fetches would pass together.
        self.bytes += size
        try:
            await self._budget.take(size)
        except asyncio.CancelledError:
            self.bytes -= size
            raise

    async def _follow(self, uri: str, field: str, body: _Body) -> bytes:
        import httpx2

        url = httpx2.URL(uri) if len(uri) <= MAX_URI_CHARS else None
        if url is None:
            raise _not_allowed(field, f"it has {len(uri)} characters: use at most {MAX_URI_CHARS}")
        for _ in range(MAX_REDIRECTS + 1):
            address = await self._judge(url, field)
            outcome = await self._get(url, address, field, body)
            if isinstance(outcome, bytes):
                return outcome
            if len(outcome) > MAX_URI_CHARS:
                raise _failed(field, "it redirects to an address that is too long")
            url = url.join(outcome)
        raise _failed(field, f"it redirects more than {MAX_REDIRECTS} times: use the final address")

    async def _judge(self, url: httpx2.URL, field: str) -> str:
        """Return the one address to connect to. Raises InvalidInput where the URL is not allowed.

        Every address of the name has to be allowed: a name with one bad address is refused.
        """
        policy = self._policy
        if url.scheme not in policy.schemes:
            raise _not_allowed(
                field, f"the scheme is {url.scheme[:32]!r}, allowed here: {', '.join(sorted(policy.schemes))}"
            )
        if url.userinfo:
            raise _not_allowed(field, "it carries a user name or password: use an address without")
        port = _PORTS[url.scheme] if url.port is None else url.port
        if not url.host or not 0 < port < 65_536:
            raise _not_allowed(field, "it names no host, or a port outside 1 to 65535")
        host = url.host.rstrip(".").lower()
        if policy.hosts and not any(_matches(host, allowed) for allowed in policy.hosts):
            raise _not_allowed(field, f"the host {host!r} is not among those allowed here")
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(url.raw_host.decode("ascii"), port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise _failed(field, f"the host {host!r} is not known") from None
        addresses = [str(entry[4][0]).split("%")[0] for entry in found]
        if not policy.private and not all(is_public(ipaddress.ip_address(address)) for address in addresses):
            raise _not_allowed(field, f"the host {host!r} is not on the public internet")
        return addresses[0]

    async def _get(self, url: httpx2.URL, address: str, field: str, body: _Body) -> bytes | str:
        """Send one request. Return the body, or the address that it redirects to."""
        import httpx2

        request = httpx2.Request(
            "GET",
            url.copy_with(host=address),
            # What comes back counts against the limit as it is: no compression that could unpack to more.
            headers={"Host": url.netloc.decode("ascii"), "Accept": "image/*", "Accept-Encoding": "identity"},
            extensions={
                "sni_hostname": url.raw_host.decode("ascii"),
                "timeout": dict.fromkeys(("connect", "read", "write", "pool"), self._timeout_s),
            },
        )
        response = await self._fetcher.send(request)
        try:
            status, headers = response.status_code, response.headers
            if status in _REDIRECTS:
                if "location" not in headers:
                    raise _failed(field, f"its server answered {status} and not where to: check the address")
                return str(headers["location"])
            if status >= 500 or status == 429:
                raise Unavailable(
                    Reason.URI_UNREACHABLE,
                    f"{field}: its server answered {status}: try again later, or send the bytes",
                    retry_after_s=5,
                    metadata={"field": field, "status": status},
                )
            if status != 200:
                raise _failed(field, f"its server answered {status}: check the address")
            if headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
                raise _failed(field, "its server answered with a compressed body although none was asked for")
            return await body.read(response, self._policy.max_bytes)
        finally:
            await response.aclose()


class _Body:
    """Bytes of one answer, counted before they arrive."""

    def __init__(self, fetches: Fetches, field: str) -> None:
        self._fetches, self._field = fetches, field
        self._taken = 0

    async def read(self, response: httpx2.Response, limit: int) -> bytes:
        announced = response.headers.get("content-length", "")
        if announced.isascii() and announced.isdigit():
            if int(announced) > limit:
                self._too_large(limit)
            await self._take(int(announced))
        body = bytearray()
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > limit:
                self._too_large(limit)
            if len(body) > self._taken:
                await self._take(max(len(chunk), min(_STEP_BYTES, limit - self._taken)))
        self._fetches.drop(self._taken - len(body))
        self._taken = len(body)
        return bytes(body)

    def drop(self) -> None:
        self._fetches.drop(self._taken)
        self._taken = 0

    async def _take(self, size: int) -> None:
        await self._fetches.take(size, self._field)
        self._taken += size

    def _too_large(self, limit: int) -> NoReturn:
        raise InvalidInput(
            Reason.IMAGE_TOO_LARGE,
            f"{self._field} has more than {limit} bytes: use a smaller file",
            field=self._field,
            metadata={"limit": limit},
        )


def _matches(host: str, allowed: str) -> bool:
    return host == allowed or (allowed.startswith(".") and host.endswith(allowed))


def _content(field: str) -> str:
    return field.removesuffix("uri") + "content"


def _not_allowed(field: str, why: str) -> LensmeshError:
    return InvalidInput(Reason.URI_NOT_ALLOWED, f"{field}: {why}", field=field)


def _failed(field: str, why: str) -> LensmeshError:
    return InvalidInput(Reason.URI_FAILED, f"{field}: {why}", field=field)
