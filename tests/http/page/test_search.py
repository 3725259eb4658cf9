"""Searching: terms, images, filters, groups, and the address that tells all of it."""

import json
from collections.abc import Callable

from playwright.sync_api import FilePayload, Page, expect

from tests.http.page.conftest import DROP, Open
from tests.http.page.fake_rest import FakeRest

PASTE = """(bytes) => {
  const data = new DataTransfer();
  data.items.add(new File([new Uint8Array(bytes)], 'pasted.png', { type: 'image/png' }));
  document.body.dispatchEvent(new ClipboardEvent('paste', { clipboardData: data, bubbles: true, cancelable: true }));
}"""


def wait_for(holds: Callable[[], bool], page: Page) -> None:
    """Wait until something holds here, while the browser goes on."""
    for _ in range(500):
        if holds():
            return
        page.wait_for_timeout(20)
    raise AssertionError("it never came true")


def search(page: Page, line: str) -> None:
    """Type a line and send it."""
    page.get_by_label("What the images show").fill(line)
    page.keyboard.press("Enter")


def test_words_find_images_best_first(open_page: Open, rest: FakeRest) -> None:
    page = open_page()
    expect(page.get_by_role("status").filter(has_text="48 images")).to_be_visible()
    search(page, "red circle")
    first = page.locator(".card").first
    expect(first).to_contain_text("96%")
    expect(first).to_contain_text("red")
    assert rest.asked("POST", "/v1/search")[-1]["queries"] == [{"name": "term 1", "text": "red circle"}]


def test_a_line_may_hold_several_terms_and_each_can_be_turned_and_removed(open_page: Open, rest: FakeRest) -> None:
    page = open_page()
    search(page, 'red "large" -blue')
    expect(page.get_by_label("Remove red")).to_be_visible()
    expect(page).to_have_url(rest.address + "/?q=red&words=large&not=blue")
    page.wait_for_selector(".grid:not(.busy) .legs")
    assert rest.asked("POST", "/v1/search")[-1]["queries"] == [
        {"name": "term 1", "text": "red"},
        {"name": "term 2", "words": "large"},
        {"name": "term 3", "text": "blue", "weight": -1},
    ]
    page.get_by_label("large, exact words. Change").click()
    expect(page).to_have_url(rest.address + "/?q=red&not=large&not=blue")
    page.get_by_label("Remove blue").click()
    expect(page).to_have_url(rest.address + "/?q=red&not=large")
    page.keyboard.press("Backspace")
    expect(page).to_have_url(rest.address + "/?q=red")


def test_an_address_tells_the_search_and_back_returns_to_it(open_page: Open, rest: FakeRest) -> None:
    page = open_page("/?q=red&not=green&where.artist=Mira+Sol&where.year=2021&min_relevance=0.2&group_by=artist")
    page.wait_for_selector(".card, .state")
    asked = rest.asked("POST", "/v1/search")[-1]
    assert asked["filter"]["all"]["filters"] == [
        {"condition": {"field": "artist", "one_of": ["Mira Sol"]}},
        {"condition": {"field": "year", "one_of": [2021]}},
    ]
    assert asked["min_relevance"] == 0.2
    assert asked["group_by"]["fields"] == ["artist"]
    expect(page.get_by_label("Mira Sol")).to_be_checked()
    search(page, "star")
    expect(page.get_by_label("Remove star")).to_be_visible()
    page.go_back()
    expect(page.get_by_label("Remove star")).to_have_count(0)
    expect(page.get_by_label("Remove red")).to_be_visible()


def test_an_image_is_chosen_dropped_or_pasted_to_search_by_it(open_page: Open, rest: FakeRest) -> None:
    page = open_page()
    chosen = FilePayload(name="a.webp", mimeType="image/webp", buffer=b"chosen")
    page.set_input_files("input[aria-label='Image to search by']", [chosen])
    expect(page.get_by_label("Remove your image")).to_be_visible()
    page.wait_for_selector(".grid:not(.busy) .meter")
    assert rest.asked("POST", "/v1/search")[-1]["queries"] == [{"name": "", "image": 6}]
    page.evaluate(DROP, [[1, 2, 3], "image/webp", "search"])
    wait_for(lambda: len(rest.asked("POST", "/v1/search")) == 2, page)
    assert rest.asked("POST", "/v1/search")[-1]["queries"] == [{"name": "", "image": 3}]
    page.evaluate(PASTE, [1, 2, 3, 4])
    wait_for(lambda: len(rest.asked("POST", "/v1/search")) == 3, page)
    assert rest.asked("POST", "/v1/search")[-1]["queries"] == [{"name": "", "image": 4}]


def test_an_image_that_only_another_tab_has_is_asked_for_again(open_page: Open, rest: FakeRest) -> None:
    page = open_page("/?upload=elsewhere")
    expect(page.get_by_role("alert")).to_contain_text("Drop or choose it again")
    assert not rest.asked("POST", "/v1/search")


def test_more_like_this_searches_by_an_image_of_the_collection(open_page: Open, rest: FakeRest) -> None:
    page = open_page("/?q=red")
    page.locator(".card").first.hover()
    page.locator(".like").first.click()
    page.wait_for_url("**/?like=scene*")
    page.wait_for_selector(".grid:not(.busy)")
    assert rest.asked("POST", "/v1/search")[-1]["queries"][0]["id"].startswith("scene/")


def test_facets_count_and_choose(open_page: Open, rest: FakeRest) -> None:
    page = open_page()
    artist = page.get_by_role("group", name="artist")
    expect(artist.get_by_label("Mira Sol")).to_be_visible()
    expect(artist.locator(".count").first).to_have_text("16")
    artist.get_by_label("Mira Sol").check()
    expect(page.get_by_role("status").filter(has_text="16 images")).to_be_visible()
    # Its own choice leaves a field's other values to choose, and narrows other fields.
    expect(artist.get_by_label("K. Ito")).to_be_visible()
    artist.get_by_label("K. Ito").check()
    expect(page.get_by_role("status").filter(has_text="32 images")).to_be_visible()
    expect(page.get_by_role("group", name="year").locator(".count").first).to_have_text("8")
    page.get_by_role("button", name="Clear the filters").click()
    expect(page.get_by_role("status").filter(has_text="48 images")).to_be_visible()


def test_groups_have_titles(open_page: Open) -> None:
    page = open_page("/?q=red")
    page.get_by_label("Group by").select_option("artist")
    expect(page.get_by_role("status").filter(has_text="in 3 groups")).to_be_visible()
    expect(page.get_by_role("heading", name="artist Jo Anders")).to_be_visible()
    page.get_by_label("Group by").select_option("")
    expect(page.locator(".group")).to_have_count(0)


def test_the_least_relevance_is_chosen_by_a_slider(open_page: Open, rest: FakeRest) -> None:
    page = open_page("/?q=red")
    page.wait_for_selector(".card")
    slider = page.get_by_label("Relevance at least")
    slider.focus()
    page.keyboard.press("End")
    expect(page.get_by_role("heading", name="Nothing found")).to_be_visible()
    page.get_by_role("button", name="Clear the filters").last.click()
    expect(page.locator(".card").first).to_be_visible()


def test_a_search_that_fails_says_why_and_can_be_tried_again(open_page: Open, rest: FakeRest) -> None:
    fields = [{"field": "queries[0].text", "description": "has 900 characters; send 500 at most"}]
    rest.refuse_search = {
        "code": "INVALID_ARGUMENT",
        "reason": "TEXT_TOO_LONG",
        "message": "the text is too long.",
        "fields": fields,
    }
    page = open_page("/?q=red")
    expect(page.get_by_role("alert")).to_contain_text(
        "the text is too long. queries[0].text: has 900 characters; send 500 at most"
    )
    rest.refuse_search = None
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".card").first).to_be_visible()


def test_terms_that_were_left_out_are_told(open_page: Open, rest: FakeRest) -> None:
    page = open_page("/?q=red")
    page.wait_for_selector(".card")
    answer = {"hits": [], "groups": None, "failed_queries": [{"name": "term 1", "error": {"message": "no encoder"}}]}
    rest.search_answer = answer
    search(page, "star")
    expect(page.get_by_text("Left out: red: no encoder")).to_be_visible()
    expect(page.get_by_role("heading", name="Nothing found")).to_be_visible()


def test_the_trace_is_a_link_where_the_mesh_tells_who_shows_it(open_page: Open, rest: FakeRest) -> None:
    page = open_page("/?q=red")
    expect(page.get_by_label("Copy the trace id")).to_be_visible()
    expect(page.get_by_role("link", name="Trace")).to_have_count(0)
    rest.trace_url = "http://127.0.0.1:16686/trace/{trace_id}"
    page.reload()
    link = page.get_by_role("link", name="Trace")
    expect(link).to_have_attribute("href", "http://127.0.0.1:16686/trace/4bf92f3577b34da6a3ce929d0e0e4736")
    rest.trace_url = "javascript:alert(1)//"
    page.reload()
    expect(page.get_by_label("Copy the trace id")).to_be_visible()
    assert "javascript" not in json.dumps(page.content())
