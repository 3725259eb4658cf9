"""Pictures by address: what is fetched, what is refused, and that nothing reaches inside the network."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lensmesh_chassis.errors import InvalidInput, Unavailable
from lensmesh_chassis.fetching import Fetcher, FetchPolicy
from lensmesh_chassis.reasons import Reason

HTTP = frozenset({"http"})


class Site(BaseHTTPRequestHandler):
    """A small web server with one page of every kind."""

    hosts_seen: list[str]

    def do_GET(self) -> None:
        self.hosts_seen.append(self.headers["Host"])
        port = self.connection.getsockname()[1]
        redirects = {
            "/moved": "/picture",
            "/loop": "/loop",
            "/to-file": "file:///etc/passwd",
            "/to-other-host": f"http://localhost:{port}/picture",
        }
        if self.path in redirects:
            self.send_response(302)
            self.send_header("Location", redirects[self.path])
            self.end_headers()
            return
        status = {"/picture": 200, "/endless": 200, "/broken": 503}.get(self.path, 404)
        body = b"x" * 4096 if self.path == "/endless" else b"picture"
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


@pytest.mark.parametrize("path", ["/picture", "/moved"])
async def test_a_picture_is_fetched_and_redirects_are_followed(site: str, path: str) -> None:
    fetcher = Fetcher(FetchPolicy(HTTP, private=True))
    assert await fetcher.fetch(site + path, "images[0].uri") == b"picture"
    await fetcher.aclose()
    assert set(Site.hosts_seen) == {site.removeprefix("http://")}


async def test_nothing_is_fetched_by_default(site: str) -> None:
    error = await refusal(FetchPolicy(), site + "/picture")
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
    error = await refusal(FetchPolicy(HTTP, timeout_s=30), f"http://{host}/picture")
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


async def test_answers_that_are_no_picture(site: str) -> None:
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
    assert await fetcher.fetch(site + "/picture", "images[0].uri") == b"picture"
    await fetcher.aclose()
