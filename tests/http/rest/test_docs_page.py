"""Swagger UI in Chromium, under the policy of the page."""

from playwright.async_api import async_playwright

from tests.http.conftest import Door
from tests.support.tools import need


async def test_the_page_shows_the_operations_and_sends_requests(door: Door) -> None:
    complaints: list[str] = []
    asked: set[str] = set()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=need("chromium"), args=["--no-sandbox"])
        page = await browser.new_page()
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: asked.add(request.url.split("/")[2] if "//" in request.url else "data"))
        await page.goto(f"http://{door.server.address}/docs")
        await page.locator("#operations-search-searchImages button").first.click()
        await page.get_by_role("button", name="Try it out").click()
        await page.get_by_role("button", name="Execute").click()
        await page.get_by_text('"failed_queries": []').first.wait_for()
        await browser.close()
    assert asked <= {door.server.address, "data"}
    assert not complaints
    assert door.router.requests["Search"][-1].queries[0].text == "a red circle"
