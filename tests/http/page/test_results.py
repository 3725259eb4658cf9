"""Results: a list of any length, thumbnails, the lightbox, and all of it by keyboard."""

from playwright.sync_api import expect

from tests.http.page.conftest import Open
from tests.http.page.fake_rest import FakeRest


def test_ten_thousand_hits_of_one_answer_are_shown_by_the_rows_in_view(open_page: Open, rest: FakeRest) -> None:
    images = rest.many(10_000)
    rest.search_answer = {
        "hits": [
            {"image": image, "score": 0.3, "relevance": 0.5, "rank": at + 1, "legs": []}
            for at, image in enumerate(images)
        ]
    }
    page = open_page("/?q=image&limit=10000")
    expect(page.get_by_role("status").filter(has_text="10,000")).to_be_visible()
    assert 0 < page.locator(".card").count() < 60
    page.locator(".card").first.focus()
    page.keyboard.press("End")
    expect(page.locator(".card[data-at='9999']")).to_be_focused()
    expect(page.locator(".card[data-at='9999']")).to_contain_text("image 9999")
    assert page.locator(".card").count() < 60
    assert page.locator(".cell").last.get_attribute("aria-setsize") == "10000"


def test_pages_of_images_come_as_somebody_scrolls(open_page: Open, rest: FakeRest) -> None:
    rest.images = rest.many(1000)
    page = open_page()
    expect(page.get_by_role("status").filter(has_text="1,000 images")).to_be_visible()
    # Nothing is asked for before it is needed.
    assert len(rest.asked("GET", "/v1/images")) == 1
    for seen in (200, 400, 600, 800):
        page.mouse.wheel(0, 100_000)
        page.wait_for_function("(n) => document.querySelector('.cell')?.ariaSetSize > n", arg=seen)
    page.mouse.wheel(0, 100_000)
    expect(page.locator(".card[data-at='999']")).to_be_visible()
    assert len(rest.asked("GET", "/v1/images")) == 5


def test_a_search_gives_its_next_hits_as_somebody_scrolls(open_page: Open, rest: FakeRest) -> None:
    rest.images = rest.many(150)
    page = open_page("/?q=image")
    expect(page.get_by_role("status").filter(has_text="100+ images")).to_be_visible()
    page.mouse.wheel(0, 100_000)
    expect(page.get_by_role("status").filter(has_text="150 images")).to_be_visible()
    assert [body.get("offset") for body in rest.asked("POST", "/v1/search")] == [None, 100]


def test_where_there_is_no_thumbnail_the_caption_and_address_stand(open_page: Open, rest: FakeRest) -> None:
    rest.images = rest.many(3)
    rest.images[0] |= {"thumbnail": None, "caption": "a pier", "image_uri": "s3://photos/pier.jpg"}
    rest.images[1] |= {"thumbnail": "/v1/thumbnails/0000.webp", "caption": "a boat"}
    rest.images[2] |= {"thumbnail": "https://elsewhere.example/spy.webp", "caption": None}
    page = open_page()
    cards = page.locator(".card")
    expect(cards.nth(0).locator(".thumb.none")).to_contain_text("s3://photos/pier.jpg")
    expect(cards.nth(1).locator(".thumb.none")).to_contain_text("a boat")
    expect(cards.nth(2).locator(".thumb.none")).to_contain_text("many-2")


def test_the_lightbox_tells_everything_and_closes_to_where_it_began(open_page: Open, rest: FakeRest) -> None:
    page = open_page("/?q=red&not=blue")
    page.locator(".card").nth(1).click()
    box = page.get_by_role("dialog")
    second = rest.asked("POST", "/v1/search") and page.locator(".card").nth(1).locator(".name").inner_text()
    expect(box.get_by_role("heading", level=2)).to_have_text(second)
    for text in ("blip-shapes", "Relevance", "not blue", "artist", "file:///scenes/", "shapes", "4bf92f35"):
        expect(box).to_contain_text(text)
    expect(box.locator("img").first).to_be_visible()
    page.keyboard.press("ArrowRight")
    expect(page).to_have_url(
        rest.address + "/?q=red&not=blue&image=" + _escaped(page.locator(".card").nth(2).get_attribute("href"))
    )
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(box.get_by_label("Previous image")).to_be_disabled()
    page.keyboard.press("Escape")
    expect(box).to_have_count(0)
    expect(page).to_have_url(rest.address + "/?q=red&not=blue")
    expect(page.locator(".card[data-at='0']")).to_be_focused()


def _escaped(href: str | None) -> str:
    assert href
    return href.partition("image=")[2]


def test_an_address_opens_an_image_that_the_results_lack(open_page: Open, rest: FakeRest) -> None:
    rest.images[3]["id"] = "a/b%?ü"
    page = open_page("/?q=nothinglikethis&image=a%2Fb%25%3F%C3%BC")
    expect(page.get_by_role("dialog").get_by_role("heading", level=2)).to_have_text(rest.images[3]["caption"])
    page.get_by_role("button", name="Close").click()
    expect(page.get_by_role("heading", name="Nothing found")).to_be_visible()
    page.goto(rest.address + "/?image=gone")
    expect(page.get_by_role("dialog")).to_contain_text("no image has this id")


def test_more_like_this_leaves_the_lightbox(open_page: Open, rest: FakeRest) -> None:
    page = open_page("/?image=scene%2F003")
    page.get_by_role("dialog").get_by_role("button", name="More like this").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_label("Remove scene/003")).to_be_visible()
    page.go_back()
    expect(page.get_by_role("dialog")).to_be_visible()


def test_the_keyboard_reaches_everything(open_page: Open, rest: FakeRest) -> None:
    page = open_page()
    page.wait_for_selector(".card")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("/")
    expect(page.get_by_label("What the images show")).to_be_focused()
    page.keyboard.type("red")
    page.keyboard.press("Enter")
    page.wait_for_selector(".grid:not(.busy) .meter")
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.classList.contains('card')"):
            break
    expect(page.locator(".card[data-at='0']")).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".card[data-at='1']")).to_be_focused()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    expect(page.locator(".card[data-at='1']")).to_be_focused()
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator(".card[data-at='1']")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.locator(".like").nth(1)).to_be_focused()
