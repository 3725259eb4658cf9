"""Adding images: progress, errors of single files, retries, and a mesh that goes away meanwhile."""

from typing import Any

from playwright.sync_api import Page, expect

from tests.http.page.conftest import DROP, Open
from tests.http.page.fake_rest import FakeRest

HOSTILE = "<img src=x onerror=alert(1)>.jpg"


def files(*names: str) -> list[Any]:
    """Return files of these names."""
    return [{"name": name, "mimeType": "image/jpeg", "buffer": name.encode()} for name in names]


def choose(page: Page, *names: str) -> None:
    """Choose files to add."""
    page.set_input_files("input[aria-label='Images to add']", files(*names))


def test_files_are_stored_with_progress_errors_and_a_retry(open_page: Open, rest: FakeRest) -> None:
    rest.ingest_errors = {"broken.jpg": "the image ends too early: send all of it"}
    rest.ingest_held = True
    page = open_page("/?view=add")
    choose(page, "one.jpg", "broken.jpg", HOSTILE)
    expect(page.get_by_role("heading", name="0 of 3")).to_be_visible()
    rest.ingest_held = False
    expect(page.get_by_role("heading", name="2 of 3 stored")).to_be_visible()
    failed = page.get_by_role("listitem").filter(has_text="broken.jpg")
    expect(failed).to_contain_text("the image ends too early: send all of it")
    expect(page.get_by_role("listitem").filter(has_text=HOSTILE)).to_contain_text("stored")
    assert rest.asked("POST", "/v1/ingest") == [["one.jpg", "broken.jpg", HOSTILE]]
    rest.ingest_errors = {}
    failed.get_by_label("Retry broken.jpg").click()
    expect(page.get_by_role("heading", name="All stored")).to_be_visible()
    assert rest.asked("POST", "/v1/ingest")[1:] == [["broken.jpg"]]
    page.get_by_role("listitem").filter(has_text="one.jpg").get_by_role("link").click()
    expect(page.get_by_role("dialog")).to_contain_text("what one.jpg shows")


def test_many_files_go_in_batches(open_page: Open, rest: FakeRest) -> None:
    page = open_page("/?collection=other")
    expect(page.get_by_role("status").filter(has_text="48 images")).to_be_visible()
    page.get_by_role("link", name="Add images").click()
    page.get_by_label("Write captions").uncheck()
    choose(page, *(f"{at}.jpg" for at in range(40)))
    expect(page.get_by_role("heading", name="All stored")).to_be_visible()
    assert sorted(len(names) for names in rest.asked("POST", "/v1/ingest")) == [8, 16, 16]
    assert all("collection=other&captions=none" in path for _, path, _ in rest.requests if "ingest" in path)
    # What was listed before is out of date.
    page.get_by_role("link", name="Search", exact=True).click()
    expect(page.get_by_role("status").filter(has_text="88 images")).to_be_visible()


def test_dropped_files_are_added_wherever_the_page_is(open_page: Open, rest: FakeRest) -> None:
    page = open_page("/?q=red")
    page.wait_for_selector(".card")
    page.evaluate(DROP, [[1, 2, 3], "image/webp", "add"])
    expect(page.get_by_role("heading", name="All stored")).to_be_visible()
    assert rest.asked("POST", "/v1/ingest") == [["dropped.webp"]]
    expect(page).to_have_url(rest.address + "/?view=add&q=red")


def test_an_answer_that_breaks_off_leaves_the_rest_to_retry(open_page: Open, rest: FakeRest) -> None:
    rest.ingest_cut = True
    page = open_page("/?view=add")
    choose(page, "one.jpg", "two.jpg", "three.jpg")
    expect(page.get_by_role("heading", name="1 of 3 stored")).to_be_visible()
    rest.ingest_cut = False
    page.get_by_role("button", name="Retry 2 failed").click()
    expect(page.get_by_role("heading", name="All stored")).to_be_visible()


def test_files_wait_for_a_mesh_that_is_away(open_page: Open, rest: FakeRest) -> None:
    page = open_page("/?view=add")
    rest.unavailable = "the router cannot be reached"
    choose(page, "one.jpg", "two.jpg")
    expect(page.get_by_text("Waiting for the mesh.")).to_be_visible()
    rest.unavailable = ""
    page.get_by_role("button", name="Try now").click()
    expect(page.get_by_role("heading", name="All stored")).to_be_visible()


def test_what_was_stopped_can_go_on(open_page: Open, rest: FakeRest) -> None:
    rest.ingest_held = True
    page = open_page("/?view=add")
    choose(page, "one.jpg", "two.jpg")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("Stopped before it was stored.").first).to_be_visible()
    rest.ingest_held = False
    page.get_by_role("button", name="Retry 2 failed").click()
    expect(page.get_by_role("heading", name="All stored")).to_be_visible()
    page.get_by_role("button", name="Clear").click()
    expect(page.get_by_role("heading", name="All stored")).to_have_count(0)
