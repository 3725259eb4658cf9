"""The files of the page: how they are served, how large they are, and that they were built from the sources."""

import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import brotli
import pytest
from httpx2 import ASGITransport, AsyncClient
from starlette.routing import Router

from http_svc.page import CONTENT_SECURITY_POLICY, STATIC, page_routes
from lensmesh_chassis.errors import NotFound

WEB = STATIC.parents[1] / "web"
VITE = WEB / "node_modules" / "vite" / "bin" / "vite.js"
# A first load, compressed: markup, script, style, icon.
FIRST_LOAD_BYTES = 60_000
SOURCES = re.compile(r"src/.*\.\w+|index\.html|vite\.config\.ts|tsconfig\.json|package-lock\.json")


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Serve the page alone."""
    scope["app"] = app
    await Router(page_routes())(scope, receive, send)


async def test_the_page_is_checked_each_time_and_its_assets_never_again() -> None:
    async with AsyncClient(transport=ASGITransport(app), base_url="http://door") as client:
        page = await client.get("/")
        assert page.status_code == 200
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert page.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
        assert page.headers["cache-control"] == "no-cache"
        known = {"if-none-match": page.headers["etag"]}
        assert (await client.get("/", headers=known)).status_code == 304
        names = re.findall(r'"(/assets/[^"]+)"', page.text)
        assert {Path(name).suffix for name in names} == {".js", ".css", ".svg"}
        for name in names:
            asset = await client.get(name)
            assert asset.status_code == 200
            assert "immutable" in asset.headers["cache-control"]
            assert asset.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
            assert (await client.head(name)).headers["content-type"] == asset.headers["content-type"]
        for wrong in ("/assets/gone.js", "/assets/%2e%2e"):
            with pytest.raises(NotFound):
                await client.get(wrong)


def test_the_policy_lets_nothing_in_from_elsewhere() -> None:
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    assert CONTENT_SECURITY_POLICY.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    text = (STATIC / "index.html").read_text()
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)|https?:", text)
    built = "".join(path.read_text() for path in (STATIC / "assets").glob("*.[jc]s*"))
    assert not re.findall(r"https?://(?!www\.w3\.org/)[\w.]+", built)


def test_a_first_load_is_small() -> None:
    files = [STATIC / "index.html", *(STATIC / "assets").iterdir()]
    assert sum(len(brotli.compress(path.read_bytes(), quality=4)) for path in files) < FIRST_LOAD_BYTES


def test_the_built_files_are_those_of_the_sources() -> None:
    names = (path.relative_to(WEB).as_posix() for path in WEB.rglob("*") if "node_modules" not in path.parts)
    digest = hashlib.sha256()
    for name in sorted(name for name in names if SOURCES.fullmatch(name)):
        digest.update(f"{name}\n".encode() + (WEB / name).read_bytes() + b"\n")
    assert (STATIC / "sources.sha256").read_text().strip() == digest.hexdigest(), "run `make page`"


@pytest.mark.skipif(not VITE.exists(), reason="web/node_modules is not here: `make page` makes it")
def test_a_build_makes_the_same_files_again(tmp_path: Path) -> None:
    node = shutil.which("node")
    assert node
    command = [node, str(VITE), "build", "--logLevel", "error", "--emptyOutDir", "--outDir", str(tmp_path)]
    subprocess.run(command, cwd=WEB, check=True, timeout=120)
    built, kept = (
        {path.relative_to(top): path.read_bytes() for path in top.rglob("*.*")} for top in (tmp_path, STATIC)
    )
    assert built == kept


def test_versions_are_pinned_and_no_address_of_a_registry_stands_in_the_lock() -> None:
    package = json.loads((WEB / "package.json").read_text())
    for version in (package["dependencies"] | package["devDependencies"]).values():
        assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    lock = json.loads((WEB / "package-lock.json").read_text())
    assert not [name for name, entry in lock["packages"].items() if "resolved" in entry]
    assert "omit-lockfile-registry-resolved=true" in (WEB / ".npmrc").read_text()
