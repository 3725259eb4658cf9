"""Which files a command line means: bad paths fail alone, links end, and nothing waits for the whole walk."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from lensmesh_chassis.files import NotReadableError
from lensmesh_cli.disk import MOST_STUCK, Disk
from lensmesh_cli.sources import SUFFIXES, ImageFile, Problem, Walk, is_image, named_images
from tests.support.meshes import draw_images

T = TypeVar("T")
PNG = b"\x89PNG\r\n\x1a\n" + bytes(24)


def names(walk: Walk, root: Path) -> list[str]:
    return [each.path.relative_to(root).as_posix() for each in walk if isinstance(each, ImageFile)]


def fill(root: Path, *paths: str, content: bytes = b"") -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)


def test_files_as_named_and_images_below_folders(tmp_path: Path) -> None:
    fill(tmp_path, "b.PNG", "a.jpg", "deep/c.webp", "deep/.d.png", ".deep/e.png", "f.txt")
    named = [tmp_path / "f.txt", tmp_path, tmp_path / "a.jpg", tmp_path / "deep"]
    with Disk() as disk:
        walk = Walk(named, disk)
        assert names(walk, tmp_path) == ["f.txt", "b.PNG", "deep/c.webp", "a.jpg"]
        assert walk.left_out == {"hidden": 2}
        assert (walk.images, walk.problems) == (4, 0)


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".pjpeg", ".mpo", ".apng", ".dib", ".JFIF", ".Tif"])
def test_suffixes_of_images_in_any_case(suffix: str) -> None:
    assert suffix.lower() in SUFFIXES


def test_content_decides_where_the_name_does_not(tmp_path: Path) -> None:
    fill(tmp_path, "none", "IMG_1.jpg~", "x.bin", content=PNG)
    fill(tmp_path, "a.nef", "b.DNG", content=b"II*\0" + bytes(60))
    fill(tmp_path, "c.heic", "d.HEIC", "e.mp4", "BMW", content=b"BMW is a make of cars, and no image")
    fill(tmp_path, "empty.xyz")
    with Disk() as disk:
        walk = Walk([tmp_path], disk)
        assert names(walk, tmp_path) == ["IMG_1.jpg~", "none", "x.bin"]
        assert walk.passed == {".nef": 1, ".dng": 1, ".heic": 2, ".mp4": 1, "": 1, ".xyz": 1}


def test_commands_that_read_folders_say_what_they_pass_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path, "in/a.jpg", "in/b.heic", "in/@eaDir/c.jpg", "other/d.jpg")
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "other")
    files, problems = named_images([tmp_path / "in"])
    assert ([path.name for path in files], problems) == (["a.jpg"], [])
    said = capsys.readouterr().err
    assert "1 .heic" in said
    assert "1 @eaDir" in said
    assert "linked; name them to enter them" in said


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "webp", "bmp", "tif"])
def test_first_bytes_of_every_format(tmp_path: Path, suffix: str) -> None:
    from PIL import Image

    path = tmp_path / f"a.{suffix}"
    Image.new("RGB", (8, 8)).save(path)
    assert is_image(path.read_bytes()[:32])


def test_thumbnails_trash_and_patterns_are_left_out(tmp_path: Path) -> None:
    out = ("@eaDir/a.jpg", ".@__thumb/a.jpg", "#recycle/a.jpg", "._a.jpg", "Thumbs.db", ".Trash-1000/a.jpg")
    fill(tmp_path, "a.jpg", *out, "$RECYCLE.BIN/a.jpg", "small/a.jpg", "b.gif", "2019/x/a.jpg", content=PNG)
    with Disk() as disk:
        walk = Walk([tmp_path], disk, exclude=["*.gif", "small", "2019/*"])
        assert names(walk, tmp_path) == ["a.jpg"]
        assert walk.left_out == {
            "hidden": 3, "@eaDir": 1, "#recycle": 1, "Thumbs.db": 1, "$RECYCLE.BIN": 1,
            "--exclude *.gif": 1, "--exclude small": 1, "--exclude 2019/*": 1,
        }  # fmt: skip
        assert names(Walk([tmp_path / "b.gif"], disk, exclude=["*.gif"]), tmp_path) == ["b.gif"]


def test_links_to_files_are_taken_and_folders_only_on_demand(tmp_path: Path) -> None:
    fill(tmp_path, "in/a.jpg", "other/b.jpg")
    (tmp_path / "in" / "c.jpg").symlink_to(tmp_path / "other" / "b.jpg")
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "other")
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    (tmp_path / "other" / "back").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "lock").symlink_to("host:1234")
    with Disk() as disk:
        walk = Walk([tmp_path / "in"], disk)
        assert names(walk, tmp_path) == ["in/a.jpg", "in/c.jpg"]
        assert [link.name for link in walk.links] == ["linked", "loop"]
        assert names(Walk([tmp_path / "in"], disk, follow=True), tmp_path) == [
            "in/a.jpg",
            "in/c.jpg",
            "in/linked/b.jpg",
        ]
        assert names(Walk([tmp_path / "in" / "linked"], disk), tmp_path) == ["in/linked/b.jpg"]


class FaultyDisk(Disk):
    """Refuses listings of the folders in `closed`, and counts all calls."""

    def __init__(self) -> None:
        super().__init__()
        self.closed: set[Path] = set()
        self.calls = 0

    def run(self, call: Callable[[], T]) -> T:
        self.calls += 1
        if set(getattr(call, "args", ())) & self.closed:
            raise PermissionError(13, "Permission denied")
        return super().run(call)


def test_a_bad_path_is_its_own_problem(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", "closed/b.jpg", "d/e.jpg")
    (tmp_path / "gone.jpg").symlink_to("/nowhere/gone.jpg")
    (tmp_path / "self.jpg").symlink_to("self.jpg")
    with FaultyDisk() as disk:
        disk.closed.add(tmp_path / "closed")
        found = list(Walk([tmp_path, tmp_path / "no.jpg"], disk))
    assert [each.path.name for each in found if isinstance(each, ImageFile)] == ["a.jpg", "e.jpg"]
    assert [each.path.name for each in found if isinstance(each, Problem)] == [
        "gone.jpg",
        "self.jpg",
        "closed",
        "no.jpg",
    ]


def test_the_first_file_comes_before_the_walk_is_over(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", *(f"d{number}/b.jpg" for number in range(50)))
    with FaultyDisk() as disk:
        walk = iter(Walk([tmp_path], disk))
        assert next(walk) == ImageFile(tmp_path / "a.jpg")
        # The named path is looked at, and its folder listed; no file is looked at for its own sake.
        assert disk.calls == 2
        assert len(list(walk)) == 50
        assert disk.calls == 52


def test_a_call_that_hangs_is_given_up_and_others_go_on() -> None:
    release = threading.Event()
    with Disk(0.05) as disk:
        for _ in range(MOST_STUCK):
            with pytest.raises(NotReadableError, match="no answer within"):
                disk.run(release.wait)
            # Not the same thread: that one hangs.
            if _ < MOST_STUCK - 1:
                assert disk.run(lambda: 7) == 7
        with pytest.raises(NotReadableError, match="not tried"):
            disk.run(lambda: 7)
        assert all(thread.daemon for thread in threading.enumerate() if thread.name == "lensmesh-disk")
        release.set()
        while threading.active_count() and disk._stuck:
            os.sched_yield()
        assert disk.run(lambda: 7) == 7


def test_drawn_images_are_images(tmp_path: Path) -> None:
    [path] = draw_images(tmp_path, 1)
    assert is_image(path.read_bytes()[:32])
