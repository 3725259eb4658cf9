"""The page before a real door and a real mesh of mocks."""

import io
from collections.abc import Iterator

import httpx2
import pytest
from PIL import Image
from playwright.sync_api import Browser, FilePayload, expect

from tests.http.page.conftest import Open, windows
from tests.support.meshes import mock_mesh


@pytest.fixture(scope="module")
def mesh_door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a door, with images of two kinds in a collection that counts them."""
    with mock_mesh(tmp_path_factory.mktemp("mesh"), "--http") as mesh:
        address = mesh.addresses["http"]
        door = address if "://" in address else f"http://{address}"
        fields = {"kind": "keyword"}
        made = httpx2.post(f"{door}/v1/collections", json={"name": "kinds", "fields": fields}, timeout=60)
        assert made.status_code == 201, made.text
        for number in range(6):
            parts = {"metadata": f'{{"kind": "{"odd" if number % 2 else "even"}"}}', "collection": "kinds"}
            files = {"file": (f"{number}.png", drawn(number, 90), "image/png")}
            stored = httpx2.post(f"{door}/v1/images", data=parts, files=files, timeout=60)
            assert stored.status_code == 201, stored.text
        yield door


@pytest.fixture
def open_real(browser: Browser, mesh_door: str) -> Iterator[Open]:
    """What opens the page of that door."""
    with windows(browser, mesh_door) as opened:
        yield opened


def drawn(number: int, blue: int = 7) -> bytes:
    """Return an image, no two alike."""
    kept = io.BytesIO()
    Image.new("RGB", (64, 48), (40 + number * 12, 200 - number * 9, blue)).save(kept, "PNG")
    return kept.getvalue()


def test_images_are_added_found_and_looked_at(open_real: Open, mesh_door: str) -> None:
    page = open_real()
    expect(page.get_by_role("heading", name="No images yet")).to_be_visible()
    page.get_by_role("button", name="Add images").click()
    files = [FilePayload(name=f"{at}.png", mimeType="image/png", buffer=drawn(at)) for at in range(12)]
    broken = FilePayload(name="broken.png", mimeType="image/png", buffer=drawn(12)[:40])
    page.set_input_files("input[aria-label='Images to add']", [*files, broken])
    expect(page.get_by_role("heading", name="12 of 13 stored")).to_be_visible()
    expect(page.get_by_role("listitem").filter(has_text="broken.png").locator(".why")).not_to_be_empty()
    page.get_by_label("Retry broken.png").click()
    expect(page.get_by_role("heading", name="12 of 13 stored")).to_be_visible()
    page.get_by_role("link", name="Search", exact=True).click()
    expect(page.get_by_role("status").filter(has_text="12 images")).to_be_visible()
    page.wait_for_function("() => document.querySelector('.thumb img')?.naturalWidth > 0")

    page.get_by_label("What the images show").fill('green -"red"')
    page.keyboard.press("Enter")
    page.wait_for_selector(".grid:not(.busy) .legs")
    page.locator(".card").first.click()
    box = page.get_by_role("dialog")
    expect(box).to_contain_text("not red")
    box.get_by_role("button", name="More like this").click()
    page.wait_for_url("**/?like=*")
    # The image itself is not among those like it.
    expect(page.locator(".grid:not(.busy) .card")).to_have_count(11)

    page.set_input_files("input[aria-label='Image to search by']", files[:1])
    page.wait_for_url("**/?upload=*")
    expect(page.locator(".grid:not(.busy) .card")).to_have_count(12)


def test_facets_and_groups_of_a_collection(open_real: Open) -> None:
    page = open_real("/?collection=kinds")
    kind = page.get_by_role("group", name="kind")
    expect(kind.locator(".count").first).to_have_text("3")
    kind.get_by_label("odd").check()
    expect(page.get_by_role("status").filter(has_text="3 images")).to_be_visible()
    kind.get_by_label("odd").uncheck()
    page.get_by_label("What the images show").fill("green")
    page.keyboard.press("Enter")
    page.get_by_label("Group by").select_option("kind")
    expect(page.get_by_role("status").filter(has_text="6 images in 2 groups")).to_be_visible()
    expect(page.get_by_role("heading", name="kind odd")).to_be_visible()


def test_the_mesh_and_its_jobs(open_real: Open) -> None:
    page = open_real("/?view=mesh")
    for kind in ("encoder", "caption", "search"):
        service = page.get_by_role("listitem").filter(has=page.get_by_role("heading", name=kind))
        expect(service).to_contain_text("serving")
    page.get_by_role("link", name="Jobs").click()
    page.get_by_label("Collection").select_option("kinds")
    page.get_by_role("button", name="Start").click()
    expect(page.locator(".job").first).to_contain_text("succeeded")
