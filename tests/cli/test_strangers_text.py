"""Text that strangers wrote: no terminal obeys it, no page runs it, and it names no file to show."""

import io
import json
import os
import struct
import time
import zlib
from pathlib import Path
from typing import Any

import pytest
from rich.table import Table

from lensmesh_cli.cards import ShownQuery
from lensmesh_cli.console import SafeConsole
from lensmesh_cli.disk import Disk
from lensmesh_cli.folders import LocalImages, known, remember
from lensmesh_cli.hits import name_of
from lensmesh_cli.page import ResultPage, Section
from lensmesh_cli.printable import json_line, printable
from lensmesh_cli.thumbnails import thumbnail
from lensmesh_client import Caption, Hit, IngestItem, LegScore, SearchResult, SyncClient
from tests.cli.in_process import User
from tests.support.hostile_images import scan_bomb
from tests.support.meshes import draw_images

ORDERS = "\x1b]0;title\x07\x1b[2J\x9b31m\r\x08\u202egpj.exe\u2066\u2028\U000e0041"
HARMFUL = {*ORDERS} - {*"]0;title[2J31mgpj.exe"}


def harmless(text: str) -> bool:
    return not HARMFUL & set(text) and not any(0xD800 <= ord(letter) < 0xE000 for letter in text)


def test_a_console_passes_no_order_on() -> None:
    file = io.StringIO()
    console = SafeConsole(file=file, width=60, color_system=None)
    table = Table(box=None)
    table.add_column(ORDERS)
    table.add_row(ORDERS)
    console.print(table)
    console.print(f"[red]{ORDERS}", "b\udcffd")
    console.print(ORDERS, markup=False)
    assert harmless(file.getvalue())
    assert "\\x1b]0;title" in file.getvalue()
    assert "b\\xffd" in file.getvalue()


def test_scripts_and_emoji_stay_as_they_are() -> None:
    words = "Übung, 日本語, می‌خواهم, 👩‍👩‍👧"
    assert printable(words) == words


def test_json_is_one_valid_line_for_every_name() -> None:
    line = json_line({"path": f"{ORDERS}\n\udcff\ud800", "é": 1})
    assert harmless(line)
    assert json.loads(line) == {"path": f"{ORDERS}\n\\xff\\ud800", "é": 1}


@pytest.mark.parametrize(
    "uri", ["http://[", "://", "", "file:", "http://a:99999999/x", "\x00", "ftp://[::1/%zz", "//[/"]
)
def test_any_address_of_an_item_can_be_shown(uri: str, tmp_path: Path) -> None:
    hit = Hit(id="the-id", score=0.5, image_uri=uri)
    assert harmless(name_of(hit))
    with Disk() as disk:
        assert LocalImages([tmp_path], disk).of(hit) is None


def test_search_shows_what_a_stranger_stored(user: User, tmp_path: Path) -> None:
    with SyncClient(user.target) as client:
        [path] = draw_images(tmp_path / "a", 1, start=7000)
        client.ingest(
            IngestItem(path, image_uri="http://[", caption=ORDERS, metadata={ORDERS: ORDERS}), collection="strange"
        )
        [path] = draw_images(tmp_path / "b", 1, start=7001)
        client.ingest(IngestItem(path, image_uri="file:///a%1b%5D0;b%07.jpg", caption="<script>"), collection="strange")
    shown = user.run("search", "x", "--collection", "strange", "--html", tmp_path / "page.html")
    assert shown.code == 0, shown.err
    assert harmless(shown.out)
    assert "\\x1b]0;title" in shown.out
    assert "a\\x1b]0;b\\x07.jpg" in shown.out
    assert harmless(user.run("search", "x", "--collection", "strange", "--json").out)
    html = (tmp_path / "page.html").read_text()
    assert harmless(html)
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert harmless(user.run("search", "x", "--collection", f"no{ORDERS}").err)


def test_a_page_is_text_wherever_strangers_words_stand() -> None:
    nasty = '"><img src=x onerror=alert(1)>'
    hit = Hit(
        id=nasty,
        score=0.5,
        caption=Caption(nasty),
        metadata={nasty: nasty},
        image_uri=f"http://h/{nasty}",
        legs=(LegScore(nasty, 0.5, 1),),
        group=(nasty, [nasty], {nasty: nasty}),
    )
    page = ResultPage(nasty, nasty, figures=[(nasty, nasty)], shares=[(nasty, 1.0)], shares_note=nasty)
    for groups in ((), SearchResult((hit,)).groups, SearchResult((hit, hit)).groups):
        section = Section(nasty, [hit], nasty, queries=[ShownQuery(nasty, nasty)], groups=groups)
        page.add(section, lambda _: None)
    assert page.html().count("alert(1)") > 10
    assert "<img" not in page.html()


def odd_tiff(tags: int) -> bytes:
    """An image of 8x8 with tags that libtiff complains of, two lines each."""
    data = zlib.compress(bytes(64))
    entries = [(256, 4, 1, 8), (257, 4, 1, 8), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1), (273, 4, 1, 8)]
    entries += [(277, 3, 1, 1), (278, 4, 1, 8), (279, 4, 1, len(data)), *((20000 + n, 0, 1, 8) for n in range(tags))]
    data += bytes(len(data) % 2)
    folder = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + folder


def test_a_thumbnail_of_an_image_of_many_scans_is_left_out() -> None:
    """Each of its 500 scans would go over all of its 49 megapixels: a minute of 38 KB."""
    begun = time.process_time()
    assert thumbnail(scan_bomb(500, 7000)) == ""
    assert time.process_time() - begun < 5


def test_decoders_write_nothing_to_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    assert thumbnail(odd_tiff(50)).startswith("data:image/jpeg")
    assert capfd.readouterr() == ("", "")
    os.write(2, b"heard again")
    assert capfd.readouterr().err == "heard again"


def hit_of(path: Path, uri: str = "") -> Hit:
    return Hit(id=path.name, score=0.5, image_uri=uri or path.as_uri())


def test_a_page_shows_files_of_named_folders_alone(tmp_path: Path) -> None:
    inside, outside = draw_images(tmp_path / "mine", 1)[0], draw_images(tmp_path / "other", 1)[0]
    (tmp_path / "mine" / "out.png").symlink_to(outside)
    (tmp_path / "mine" / "away").symlink_to(tmp_path / "other")
    os.mkfifo(tmp_path / "mine" / "pipe.png")
    with Disk() as disk:
        images = LocalImages([tmp_path / "mine", tmp_path / "gone"], disk)
        assert images.of(hit_of(inside)) == inside.read_bytes()
        for uri in (
            outside.as_uri(),
            "file:///etc/passwd",
            (tmp_path / "mine" / "out.png").as_uri(),
            (tmp_path / "mine" / "away" / outside.name).as_uri(),
            (tmp_path / "mine").as_uri() + "/../other/" + outside.name,
        ):
            assert images.of(hit_of(outside, uri)) is None
        assert images.left_out == 5
        assert images.of(hit_of(inside, f"file://elsewhere{inside}")) is None
        assert images.of(hit_of(tmp_path / "mine" / "pipe.png")) is None
        with (tmp_path / "mine" / "huge.png").open("wb") as huge:
            huge.truncate(1 << 40)
        assert images.of(hit_of(tmp_path / "mine" / "huge.png")) is None
        # A file that was ingested by its name opens no door to its neighbours.
        assert LocalImages([inside], disk).of(hit_of(inside)) is not None
        assert LocalImages([inside], disk).of(hit_of(tmp_path / "mine" / "p0001.png")) is None


def test_notes_of_many_files_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    read = Path.read_text
    reads: list[Path] = []

    def counted(path: Path, *arguments: Any, **named: Any) -> str:
        reads.append(path)
        return read(path, *arguments, **named)

    monkeypatch.setattr(Path, "read_text", counted)
    paths = [tmp_path / f"{n}.jpg" for n in range(100)]
    remember("a", [*paths, *paths])
    remember("a", paths)
    assert len(reads) == 2
    assert known("a") == {*paths}
    assert known("b") == set()


def test_search_shows_what_this_user_ingested_from(user: User, tmp_path: Path) -> None:
    mine, theirs = draw_images(tmp_path / "mine", 1, start=7100)[0], draw_images(tmp_path / "x", 1, start=7101)[0]
    secret = draw_images(tmp_path / "secret", 1, start=7102)[0]
    assert user.run("ingest", mine.parent, "--collection", "shown").code == 0
    with SyncClient(user.target) as client:
        client.ingest(IngestItem(theirs, image_uri=secret.as_uri()), collection="shown")

    def shown(*more: str | Path) -> int:
        page = tmp_path / "page.html"
        done = user.run("search", "x", "--collection", "shown", "--html", page, *more)
        assert done.code == 0, done.err
        count = page.read_text().count("data:image/jpeg;base64,")
        assert ("1 of its images are not shown" in done.err) == (count == 1)
        return count

    assert shown() == 1
    assert shown("--images-from", secret.parent) == 2


def test_what_the_callers_own_disk_refuses_is_no_defect(user: User, tmp_path: Path) -> None:
    draw_images(tmp_path / "in", 1, start=7200)
    assert user.run("ingest", tmp_path / "in", "--collection", "disk").code == 0
    for arguments, code, says in (
        (("search", "x", "--html", "/proc/nope/a.html"), 2, "--html: /proc/nope/a.html: No such file or directory"),
        (("search", "x", "--collection", "disk", "--html", "/dev/full"), 1, "disk is full"),
        (("up", "--mock", "--free-ports", "--data", "/proc/nope/d"), 1, "/proc/nope"),
        (("up", "--mock", "--free-ports", "--data", tmp_path, "--ready-file", "/proc/nope/r"), 2, "--ready-file: "),
        (("embed", tmp_path, "-o", "/proc/version/v.npy"), 2, "/proc/version"),
    ):
        done = user.run(*arguments)
        assert done.code == code, done.err
        assert says in done.err
        assert "defect" not in done.err
