"""Images by address: what is fetched, what is refused, and that nothing reaches inside the network."""

import asyncio
import contextlib
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from lensmesh_chassis.errors import InvalidInput, Unavailable
from lensmesh_chassis.images.fetch_settings import FetchPolicy
from lensmesh_chassis.images.fetching import Fetcher
from lensmesh_chassis.images.public_addresses import is_public
from lensmesh_chassis.reasons import Reason
from tests.support.certificates import Authority
from tests.support.tcp import tcp_server

HTTP = frozenset({"http"})


class Site(BaseHTTPRequestHandler):
    """A small web server with one page of every kind."""

    hosts_seen: list[str]

    def do_GET(self) -> None:
        self.hosts_seen.append(self.headers["Host"])
        port = self.connection.getsockname()[1]
        redirects = {
            "/moved": "/image",
            "/loop": "/loop",
            "/to-file": "file:///etc/passwd",
            "/to-other-host": f"http://localhost:{port}/image",
        }
        if self.path in redirects:
            self.send_response(302)
            self.send_header("Location", redirects[self.path])
            self.end_headers()
            return
        status = {"/image": 200, "/endless": 200, "/broken": 503}.get(self.path, 404)
        body = b"x" * 4096 if self.path == "/endless" else b"image"
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def site() -> Iterator[str]:
    Site.hosts_seen = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def refusal(policy: FetchPolicy, uri: str) -> InvalidInput:
    fetcher = Fetcher(policy)
    try:
        with pytest.raises(InvalidInput) as caught:
            await fetcher.fetch(uri, "images[0].uri")
    finally:
        await fetcher.aclose()
    return caught.value


@pytest.mark.parametrize("path", ["/image", "/moved"])
async def test_an_image_is_fetched_and_redirects_are_followed(site: str, path: str) -> None:
    fetcher = Fetcher(FetchPolicy(HTTP, private=True))
    assert await fetcher.fetch(site + path, "images[0].uri") == b"image"
    await fetcher.aclose()
    assert set(Site.hosts_seen) == {site.removeprefix("http://")}


async def test_nothing_is_fetched_by_default(site: str) -> None:
    error = await refusal(FetchPolicy(), site + "/image")
    assert error.reason == Reason.URI_NOT_ALLOWED
    assert "images[0].content" in error.message
    assert not Site.hosts_seen


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "0x7f000001",
        "2130706433",
        "169.254.169.254",
        "10.0.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "[fe80::1]",
        "[fd00::1]",
        "0.0.0.0",
        "224.0.0.1",
    ],
)
async def test_addresses_inside_the_network_are_refused(host: str) -> None:
    error = await refusal(FetchPolicy(HTTP, timeout_s=30), f"http://{host}/image")
    assert error.reason == Reason.URI_NOT_ALLOWED
    assert "public internet" in error.message


@pytest.mark.parametrize(
    "uri",
    [
        "file:///etc/passwd",
        "/etc/passwd",
        "ftp://example.org/a",
        "https://example.org/a",
        "gopher://x",
        "",
        "http://",
        "http://[",
    ],
)
async def test_other_schemes_are_refused(uri: str) -> None:
    error = await refusal(FetchPolicy(HTTP, private=True), uri)
    assert error.reason in {Reason.URI_NOT_ALLOWED, Reason.URI_FAILED}
    assert "images[0].uri" in error.message


async def test_names_and_passwords_are_refused(site: str) -> None:
    error = await refusal(FetchPolicy(HTTP, private=True), site.replace("http://", "http://user:secret@"))
    assert error.reason == Reason.URI_NOT_ALLOWED
    assert "secret" not in error.message


@pytest.mark.parametrize(
    ("path", "reason"),
    [("/to-file", Reason.URI_NOT_ALLOWED), ("/to-other-host", Reason.URI_NOT_ALLOWED), ("/loop", Reason.URI_FAILED)],
)
async def test_each_hop_of_a_redirect_is_judged(site: str, path: str, reason: Reason) -> None:
    policy = FetchPolicy(HTTP, hosts=frozenset({"127.0.0.1"}), private=True)
    assert (await refusal(policy, site + path)).reason == reason


async def test_a_body_over_the_limit_is_not_read_to_its_end(site: str) -> None:
    error = await refusal(FetchPolicy(HTTP, private=True, max_bytes=1000), site + "/endless")
    assert error.reason == Reason.IMAGE_TOO_LARGE
    assert error.metadata["limit"] == "1000"


async def test_answers_that_are_no_image(site: str) -> None:
    assert (await refusal(FetchPolicy(HTTP, private=True), site + "/missing")).reason == Reason.URI_FAILED
    fetcher = Fetcher(FetchPolicy(HTTP, private=True))
    with pytest.raises(Unavailable) as caught:
        await fetcher.fetch(site + "/broken", "images[0].uri")
    await fetcher.aclose()
    assert caught.value.reason == Reason.URI_UNREACHABLE
    assert caught.value.retry_after_s


async def test_proxies_of_the_environment_are_ignored(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    fetcher = Fetcher(FetchPolicy(HTTP, private=True))
    assert await fetcher.fetch(site + "/image", "images[0].uri") == b"image"
    await fetcher.aclose()


@pytest.mark.parametrize(
    "address",
    [
        "64:ff9b:1::808:808",
        "64:ff9b::a00:1",
        "::ffff:0:808:808",
        "::808:808",
        "::ffff:10.0.0.1",
        "fec0::1",
        "fe80::1",
        "fd12::1",
        "2002:a00:1::1",
        "2001:0:a00:1::",
        "2001:0:4136:e378:8000:63bf:f5ff:fffe",
        "2001:db8::1",
        "3fff::1",
        "5f00::1",
        "100::1",
        "4000::1",
        "ff02::1",
        "192.88.99.1",
        "198.18.0.1",
        "240.0.0.1",
        "255.255.255.255",
    ],
)
def test_addresses_that_are_not_reachable_for_all_are_not_public(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8", "2002:808:808::1"]
)
def test_addresses_of_the_internet_are_public(address: str) -> None:
    assert is_public(ip_address(address))


Answer = Callable[[bytes, Any], bytes]


def response(status: bytes, headers: bytes = b"", body: bytes = b"") -> bytes:
    """One answer of HTTP/1.1."""
    length = b"Content-Length: %d\r\n" % len(body)
    return b"HTTP/1.1 " + status + b"\r\n" + length + headers + b"\r\n" + body


def raw_site(answer: Answer, tls: ssl.SSLContext | None = None) -> AbstractAsyncContextManager[int]:
    """A server whose answers are bytes; it keeps connections open as long as clients do."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            while True:
                writer.write(answer(await reader.readuntil(b"\r\n\r\n"), writer))
                await writer.drain()
        with contextlib.suppress(OSError, ssl.SSLError):
            writer.close()
            await writer.wait_closed()

    return tcp_server(serve, tls)


@pytest.fixture
async def names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every name below .example is this machine."""
    loop = asyncio.get_running_loop()
    real = loop.getaddrinfo

    async def resolve(host: str, *rest: Any, **options: Any) -> Any:
        return await real("127.0.0.1" if host.endswith(".example") else host, *rest, **options)

    monkeypatch.setattr(loop, "getaddrinfo", resolve)


@contextlib.asynccontextmanager
async def fetching(trust: ssl.SSLContext | None = None, **changes: Any) -> AsyncIterator[Fetcher]:
    one = Fetcher(FetchPolicy(frozenset({"http", "https"}), private=True, **changes), trust)
    try:
        yield one
    finally:
        await one.aclose()


@pytest.mark.parametrize(
    "uri",
    [
        "http://127.0.0.1:99999/x.jpg",
        "http://127.0.0.1:65536/",
        "http://127.0.0.1:0/",
        "http://127.0.0.1:-1/",
        "http://127.0.0.1:port/",
        "http://[::1",
        "http://[::1]]/",
        "http://[v1.x]/",
        "http:///x",
        "http://exa mple/",
        "http://%00/",
        "http://\u2100.example/",
        "http://" + "a" * 70 + ".example/",
        "http://xn--/",
        "http://xn--a\u0308.example/",
        "http://..../",
        "http://a\r\nb/",
        "http://127.0.0.1/\x00",
        "http://user:hunter2@127.0.0.1/",
        "http://127.0.0.1:1/" + "\ud800",
        "//127.0.0.1/x",
        "http:\\\\127.0.0.1\\x",
    ],
)
async def test_whatever_an_address_is_made_of_it_is_refused_as_one(uri: str) -> None:
    async with fetching(timeout_s=5) as fetcher:
        with pytest.raises((InvalidInput, Unavailable)) as caught:
            await fetcher.fetch(uri, "images[0].uri")
    assert caught.value.reason in {Reason.URI_NOT_ALLOWED, Reason.URI_FAILED, Reason.URI_UNREACHABLE}
    assert "hunter2" not in caught.value.message


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (response(b"302 Found"), Reason.URI_FAILED),
        (response(b"304 Not Modified"), Reason.URI_FAILED),
        (response(b"300 Multiple Choices", b"Location: /x\r\n"), Reason.URI_FAILED),
        (response(b"302 Found", b"Location: http://127.0.0.1:99999/\r\n"), Reason.URI_NOT_ALLOWED),
        (response(b"302 Found", b"Location: http://[::1\r\n"), Reason.URI_NOT_ALLOWED),
        (response(b"302 Found", b"Location: \xff\xfe\r\n"), None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: nonsense\r\n\r\nabc", Reason.URI_UNREACHABLE),
        (b"\x00\x01 garbage\r\n\r\n", Reason.URI_UNREACHABLE),
        (response(b"200 OK", b"Content-Encoding: gzip\r\n", b"abc"), Reason.URI_FAILED),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\nabc", Reason.IMAGE_TOO_LARGE),
    ],
)
async def test_whatever_a_server_answers_is_an_error_of_the_address(answer: bytes, reason: Reason | None) -> None:
    async with raw_site(lambda *_: answer) as port, fetching(timeout_s=5) as fetcher:
        with pytest.raises((InvalidInput, Unavailable)) as caught:
            await fetcher.fetch(f"http://127.0.0.1:{port}/", "images[0].uri")
        assert reason in {None, caught.value.reason}
        assert fetcher.held == 0


async def test_cookies_of_one_host_reach_no_other(names: None) -> None:
    heads: list[bytes] = []

    def answer(head: bytes, _: Any) -> bytes:
        heads.append(head.lower())
        return response(b"200 OK", b"Set-Cookie: session=one; Path=/\r\n", b"x")

    async with raw_site(answer) as port, fetching() as fetcher:
        for host in ("one.example", "two.example", "one.example"):
            assert await fetcher.fetch(f"http://{host}:{port}/", "u") == b"x"
    assert not any(b"cookie" in head for head in heads)


async def test_a_certificate_checked_for_one_host_serves_no_other(names: None, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority", "test")
    own = authority.issue("one")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(own.certificate, own.key)
    trust = ssl.create_default_context(cafile=authority.file)
    async with (
        raw_site(lambda *_: response(b"200 OK", b"", b"x"), tls) as port,
        fetching(trust, timeout_s=5) as fetcher,
    ):
        assert await fetcher.fetch(f"https://localhost:{port}/", "u") == b"x"
        with pytest.raises(Unavailable):
            await fetcher.fetch(f"https://victim.example:{port}/", "u")


async def test_a_body_that_drips_ends_with_the_time_of_the_whole_fetch() -> None:
    async def drip(writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while not writer.is_closing():
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.02)

    dripping: list[asyncio.Task[None]] = []

    def answer(_: bytes, writer: asyncio.StreamWriter) -> bytes:
        dripping.append(asyncio.create_task(drip(writer)))
        return b"HTTP/1.1 200 OK\r\n\r\n"

    async with raw_site(answer) as port, fetching(timeout_s=0.3) as fetcher:
        with pytest.raises(Unavailable):
            await fetcher.fetch(f"http://127.0.0.1:{port}/", "u")
        assert fetcher.held == 0
    await asyncio.gather(*dripping)


async def test_images_count_by_what_is_announced_and_until_their_call_ends() -> None:
    """Room for two of 400: the third waits for its turn, and what one call may fetch has a limit."""
    most = now = 0

    def answer(*_: Any) -> bytes:
        return response(b"200 OK", b"", b"x" * 400)

    async def one(fetcher: Fetcher, uri: str) -> None:
        nonlocal most, now
        async with fetcher.for_call() as fetches:
            await fetches.fetch(uri, "u")
            now += 400
            most = max(most, now)
            assert fetcher.held >= now
            await asyncio.sleep(0.02)
            now -= 400

    async with raw_site(answer) as port, fetching(all_bytes=1000, call_bytes=500) as fetcher:
        uri = f"http://127.0.0.1:{port}/"
        await asyncio.gather(*(one(fetcher, uri) for _ in range(8)))
        assert most == 800
        async with fetcher.for_call() as fetches:
            assert await fetches.fetch(uri, "images[0].uri")
            with pytest.raises(InvalidInput) as caught:
                await fetches.fetch(uri, "images[1].uri")
        assert caught.value.reason is Reason.MESSAGE_TOO_LARGE
        assert fetcher.held == 0
