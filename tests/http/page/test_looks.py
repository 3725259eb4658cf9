"""How the page looks and sounds: dark and light, phones, screen readers, and text of strangers."""

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.http.page.conftest import Open
from tests.http.page.fake_rest import FakeRest

HOSTILE = '<img src=x onerror="document.title=1"><script>document.title=2</script>\u202e\x1b[31m'
VIEWS = (
    "/",
    "/?q=red&q=large&not=blue&group_by=artist&where.year=2021",
    "/?q=red&image=scene%2F004",
    "/?view=add",
    "/?view=jobs",
    "/?view=mesh",
    "/?q=nothinglike",
)
PHONE = {"width": 390, "height": 844}


def background(page: Page) -> Any:
    """Return the colour behind everything."""
    return page.evaluate("getComputedStyle(document.body).backgroundColor")


def test_colours_follow_the_system_until_somebody_chooses(open_page: Open) -> None:
    page = open_page(color_scheme="dark")
    dark = background(page)
    page.emulate_media(color_scheme="light")
    light = background(page)
    assert dark != light
    button = page.get_by_label("Colours:")
    button.click()
    page.emulate_media(color_scheme="dark")
    assert background(page) == light
    button.click()
    page.emulate_media(color_scheme="light")
    assert background(page) == dark
    page.reload()
    assert background(page) == dark
    button.click()
    assert background(page) == light


def _settled(page: Page) -> None:
    page.wait_for_selector(".card, .drop, .jobs, .services, .state")
    page.wait_for_function("() => !document.querySelector('[aria-busy=true], .skeleton')")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(open_page: Open, rest: FakeRest, scheme: str) -> None:
    rest.add_job("dup-1", done_count=20, message="comparing")
    rest.images[1]["thumbnail"] = None
    page = open_page(color_scheme=scheme, reduced_motion="reduce")
    found = []
    for view in VIEWS if scheme == "light" else VIEWS[1:4]:
        page.goto(rest.address + view)
        _settled(page)
        answer = Axe().run(page).response
        found += [
            (view, each["id"], each["help"], [node["html"][:120] for node in each["nodes"]][:3])
            for each in answer["violations"]
            if each["impact"] in ("serious", "critical")
        ]
    assert not found


def test_a_phone_shows_all_of_it(open_page: Open, rest: FakeRest) -> None:
    page = open_page(viewport=PHONE, has_touch=True, is_mobile=True)
    for view in VIEWS:
        page.goto(rest.address + view)
        _settled(page)
        wide = page.evaluate("document.scrollingElement.scrollWidth - innerWidth")
        assert wide <= 0, f"{view} is {wide} px wider than the screen"
    page.goto(rest.address + "/?q=red")
    _settled(page)
    assert page.locator(".card").nth(0).bounding_box()["y"] == page.locator(".card").nth(1).bounding_box()["y"]  # type: ignore[index]
    expect(page.get_by_label("Mira Sol")).not_to_be_visible()
    page.get_by_role("button", name="Filters").tap()
    page.get_by_label("Mira Sol").check()
    expect(page.get_by_role("button", name="Filters 1")).to_be_visible()


def test_nothing_moves_for_who_wants_no_motion(open_page: Open) -> None:
    page = open_page(reduced_motion="reduce")
    page.wait_for_selector(".card")
    assert page.evaluate("getComputedStyle(document.querySelector('.thumb img')).transitionDuration") == "0s"


def test_text_of_strangers_stays_text(open_page: Open, rest: FakeRest) -> None:
    rest.images = rest.many(2)
    for image in rest.images:
        image |= {"id": HOSTILE, "caption": HOSTILE, "caption_model": HOSTILE, "image_uri": "javascript:alert(1)"}
        image |= {"metadata": {HOSTILE: HOSTILE, "artist": HOSTILE}, "thumbnail": "javascript:alert(1)"}
    rest.images[1]["id"] = "other"
    rest.services[0] |= {"address": HOSTILE, "reason": HOSTILE, "health": HOSTILE, "kind": HOSTILE}
    rest.add_job("dup-1", message=HOSTILE, kind=HOSTILE, state="running")
    page = open_page()
    expect(page.locator(".card").first).to_contain_text("<script>document.title=2</script>")
    expect(page.get_by_role("group", name="artist")).to_contain_text("onerror")
    page.locator(".card").first.click()
    expect(page.get_by_role("dialog")).to_contain_text("javascript:alert(1)")
    for view in ("/?view=mesh", "/?view=jobs", "/?q=%3Cscript%3Ealert(1)%3C%2Fscript%3E&group_by=artist"):
        page.goto(rest.address + view)
        _settled(page)
    assert page.locator("script").count() == 1
    assert page.locator("a[href^=javascript], [onerror]").count() == 0
    assert page.title().startswith("<script>alert(1)</script>")
