"""Screenshot of the page in a browser, of a mesh that runs and has images.

python -m docs.draw_page http://127.0.0.1:50054 docs/page.jpg --query "two blue rings"

Those of the documentation show `lensmesh up --model shapes` with the scenes of `lensmesh demo`, calibrated.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from urllib.parse import urlencode

from playwright.sync_api import ViewportSize, sync_playwright

SIZE: ViewportSize = {"width": 1280, "height": 820}
# Debian's; Playwright's own is not fetched.
CHROMIUM = "/usr/bin/chromium"


def draw(address: str, out: Path, query: str, chromium: str = CHROMIUM) -> None:
    """Search on the page, wait until its thumbnails are there, and write what it looks like."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport=SIZE)
        page.goto(f"{address}/?{urlencode({'q': query})}", wait_until="networkidle")
        page.screenshot(path=out, type="jpeg", quality=82)
        browser.close()


def main() -> None:
    """Draw what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", help="the front door, as `lensmesh up` prints it")
    parser.add_argument("out", type=Path)
    parser.add_argument("--query", default="two blue rings")
    asked = parser.parse_args()
    draw(asked.address.rstrip("/"), asked.out, asked.query)


if __name__ == "__main__":
    main()
