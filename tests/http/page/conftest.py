"""A page in Chromium before a door with faults. One browser and one door for a module; a fresh window for each test."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.http.page.fake_rest import FakeRest
from tests.support.tools import need

# What the browser says of a script or an address that the page's policy does not allow.
VIOLATIONS = """addEventListener('securitypolicyviolation', (event) =>
  console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`));"""
# Drops a file of these bytes on a half of the page.
DROP = """async ([bytes, type, zone]) => {
  const data = new DataTransfer();
  data.items.add(new File([new Uint8Array(bytes)], 'dropped.webp', { type }));
  const options = { dataTransfer: data, bubbles: true, cancelable: true };
  const at = (name, place) => place.dispatchEvent(new DragEvent(name, options));
  at('dragenter', document.body);
  await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve, 30)));
  at('drop', document.querySelector(`.dropzone [data-zone=${zone}]`));
}"""
Open = Callable[..., Page]
# For a machine that does much else.
PATIENCE_MS = 30_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, as the system has it."""
    program = need("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        expect.set_options(timeout=PATIENCE_MS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def door() -> Iterator[FakeRest]:
    """A door for the module."""
    fake = FakeRest()
    fake.start()
    yield fake
    fake.stop()


@pytest.fixture
def rest(door: FakeRest) -> FakeRest:
    """The door, as it is at its start."""
    door.reset()
    return door


@contextmanager
def windows(browser: Browser, door: str) -> Iterator[Open]:
    """What opens the page of a door at an address, each time in a window of its own.

    The test fails where a script failed, the policy was violated or another server was asked.
    """
    contexts: list[BrowserContext] = []
    wrong: list[str] = []

    def told(message: Any) -> None:
        # A status that a test wants is shown as a failed resource.
        if message.type == "error" and "Failed to load resource" not in message.text:
            wrong.append(message.text)

    def asked(request: Any) -> None:
        if not request.url.startswith((door + "/", "blob:", "data:")):
            wrong.append(f"another server was asked: {request.url}")

    def open_page(address: str = "/", **options: Any) -> Page:
        context = browser.new_context(**({"viewport": {"width": 1280, "height": 800}, "locale": "en-GB"} | options))
        contexts.append(context)
        context.set_default_timeout(PATIENCE_MS)
        context.add_init_script(VIOLATIONS)
        page = context.new_page()
        page.on("console", told)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", asked)
        page.goto(door + address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not wrong


@pytest.fixture
def open_page(browser: Browser, rest: FakeRest) -> Iterator[Open]:
    """What opens the page of the door with faults."""
    with windows(browser, rest.address) as opened:
        yield opened
