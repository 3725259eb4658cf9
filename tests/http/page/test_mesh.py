"""Jobs, the status of the mesh, and a mesh or a door that goes away and comes back."""

from playwright.sync_api import Route, expect

from tests.http.page.conftest import Open
from tests.http.page.fake_rest import FakeRest


def test_jobs_are_followed_and_cancelled(open_page: Open, rest: FakeRest) -> None:
    rest.add_job("dup-1", done_count=20, units_per_second=8, time_left_ms=90_000, message="comparing")
    rest.add_job("old", state="failed", error={"message": "the collection was removed"})
    page = open_page("/?view=jobs")
    bar = page.get_by_label("Progress of dup-1")
    expect(bar).to_have_attribute("value", "20")
    expect(page.get_by_text("the collection was removed")).to_be_visible()
    expect(page.get_by_text("8/s · about 2 min left")).to_be_visible()
    rest.jobs["dup-1"] |= {"done_count": 60}
    expect(bar).to_have_attribute("value", "60", timeout=3000)
    page.get_by_label("Cancel dup-1").click()
    expect(page.get_by_role("listitem").filter(has_text="dup-1")).to_contain_text("cancelled")
    assert rest.asked("DELETE", "/v1/jobs/dup-1")
    assert rest.asked("GET", "/v1/jobs/dup-1/events")


def test_a_job_is_started(open_page: Open, rest: FakeRest) -> None:
    page = open_page("/?view=jobs")
    expect(page.get_by_role("heading", name="No jobs")).to_be_visible()
    page.get_by_label("Kind of job").select_option("calibrate")
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_role("heading", name="calibrate")).to_be_visible()
    assert rest.asked("POST", "/v1/jobs") == [{"kind": "calibrate"}]


def test_the_mesh_is_seen_at_a_glance(open_page: Open, rest: FakeRest) -> None:
    rest.services[1] |= {"health": "not_serving", "reason": "the model does not fit"}
    page = open_page("/?view=mesh")
    expect(page.get_by_role("navigation").get_by_role("link", name="Mesh")).to_contain_text("partly serving")
    expect(page.get_by_role("listitem").filter(has_text="encoder")).to_contain_text("torch · fp32 · cpu")
    expect(page.get_by_role("listitem").filter(has_text="captioner")).to_contain_text("the model does not fit")


def test_a_mesh_that_is_away_is_told_and_the_page_goes_on_by_itself(open_page: Open, rest: FakeRest) -> None:
    rest.unavailable = "the router behind this server cannot be reached just now"
    page = open_page("/?q=red")
    banner = page.get_by_text("The mesh does not answer.")
    expect(banner).to_be_visible()
    expect(page.get_by_role("alert")).to_contain_text("cannot be reached just now")
    rest.unavailable = ""
    expect(page.locator(".card").first).to_be_visible()
    expect(banner).to_have_count(0)
    expect(page.get_by_role("group", name="artist")).to_be_visible()


def test_a_door_that_ended_and_came_back(open_page: Open, rest: FakeRest) -> None:
    page = open_page("/?q=red")
    page.wait_for_selector(".card")
    rest.stop()
    try:
        page.get_by_label("What the images show").fill("star")
        page.keyboard.press("Enter")
        expect(page.get_by_text("The mesh does not answer.")).to_be_visible()
        expect(page.get_by_role("alert")).to_contain_text("The server cannot be reached.")
    finally:
        rest.start()
    page.get_by_role("button", name="Try now").click()
    expect(page.locator(".card").first).to_be_visible()


def test_a_connection_that_expired_is_opened_anew_unseen(open_page: Open, rest: FakeRest) -> None:
    page = open_page("/?q=red")
    page.wait_for_selector(".card")
    # All connections of the page are closed, and nobody tells it.
    rest.stop()
    rest.start()
    page.get_by_label("What the images show").fill("star")
    page.keyboard.press("Enter")
    page.wait_for_selector(".grid:not(.busy) .legs")
    expect(page.get_by_text("The mesh does not answer.")).to_have_count(0)
    assert len(rest.asked("POST", "/v1/search")[-1]["queries"]) == 2


def test_a_search_whose_connection_breaks_is_sent_once_more(open_page: Open, rest: FakeRest) -> None:
    page = open_page("/?q=red")
    page.wait_for_selector(".card")
    broken: list[str] = []

    def break_first(route: Route) -> None:
        broken.append(route.request.url)
        route.abort("connectionreset") if len(broken) == 1 else route.continue_()

    page.route("**/v1/search", break_first)
    # What the page does once the mesh is back would send it again as well.
    page.route("**/v1/status", lambda route: route.abort())
    page.get_by_label("What the images show").fill("star")
    page.keyboard.press("Enter")
    page.wait_for_selector(".grid:not(.busy) .legs")
    assert len(broken) == 2
    expect(page.get_by_text("The mesh does not answer.")).to_have_count(0)
