"""Files are read once and bounded; what is no file fails alone."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from lensmesh_chassis.files import NotReadableError, TooLargeError, read_file
from lensmesh_cli.disk import Disk
from lensmesh_cli.reading import Known, ReadFile, UnreadableFile, fingerprint, read_files
from lensmesh_cli.sources import ImageFile


def fifo(path: Path) -> None:
    os.mkfifo(path)


def unix_socket(path: Path) -> None:
    # The address of a socket is short; its file may lie anywhere.
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(path.parent)
        try:
            server.bind(path.name)
        finally:
            os.chdir(here)


def huge(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


KINDS: dict[str, tuple[Callable[[Path], object], str]] = {
    "dangling": (lambda path: path.symlink_to("/nowhere/gone.jpg"), "No such file"),
    "itself": (lambda path: path.symlink_to(path), "leads to itself"),
    "vanished": (lambda path: None, "No such file"),
    "pipe": (fifo, "a named pipe"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "a device"),
    "socket": (unix_socket, "a socket"),
    "folder": (lambda path: path.mkdir(), "a folder"),
    "huge": (huge, "1099511627776 bytes, the mesh takes 1000"),
    "endless": (lambda path: path.symlink_to("/proc/kallsyms"), "more than 1000 bytes"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_none_fails_alone_and_says_why(tmp_path: Path, kind: str) -> None:
    make, says = KINDS[kind]
    for name in ("a.jpg", "z.jpg"):
        (tmp_path / name).write_bytes(b"good")
    make(tmp_path / "m.jpg")
    with Disk(20) as disk:
        first, bad, last = read_files((ImageFile(tmp_path / f"{name}.jpg") for name in "amz"), disk, 1000)
    assert isinstance(first, ReadFile)
    assert isinstance(last, ReadFile)
    assert first.data == last.data == b"good"
    assert isinstance(bad, UnreadableFile)
    assert says in bad.message
    assert bad.reason in {"IMAGE_MISSING", "IMAGE_TOO_LARGE"}


def test_no_more_than_the_limit_is_ever_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(1000))
    assert len(read_file(path, 1000).data) == 1000
    with pytest.raises(TooLargeError):
        read_file(path, 999)
    asked: list[int] = []
    real = os.read

    def counted(descriptor: int, count: int) -> bytes:
        asked.append(count)
        return real(descriptor, count)

    monkeypatch.setattr(os, "read", counted)
    with pytest.raises(TooLargeError):
        # It says that it has no bytes, and has many.
        read_file(Path("/proc/kallsyms"), 10_000)
    assert sum(asked) <= 2 * 10_001


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"half")
    real = os.read

    def growing(descriptor: int, count: int) -> bytes:
        with path.open("ab") as file:
            file.write(b"more")
        monkeypatch.setattr(os, "read", real)
        return real(descriptor, count)

    monkeypatch.setattr(os, "read", growing)
    with pytest.raises(NotReadableError, match="changed while it was read"):
        read_file(path, 1000)


def test_a_known_file_is_looked_at_and_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"one")
    with Disk() as disk:
        [read] = read_files([ImageFile(path)], disk, 1000)
        assert isinstance(read, ReadFile)
        prints = {read.fingerprint: "the-id"}

        def look(place: Path, known: str) -> str:
            assert place == path.resolve()
            return prints.get(known, "")

        [again] = read_files([ImageFile(path)], disk, 1000, lookup=look)
        assert again == Known(path, path.resolve(), "the-id")
        # The same size and the same time of change, put back: still another file.
        facts = path.stat()
        path.write_bytes(b"two")
        os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
        [changed] = read_files([ImageFile(path)], disk, 1000, lookup=look)
        assert isinstance(changed, ReadFile)


def test_fingerprints_change_with_the_file_and_with_what_is_said() -> None:
    assert fingerprint("1 2", None) == fingerprint("1 2", None)
    assert len({fingerprint("1 2", None), fingerprint("1 3", None), fingerprint("1 2", {"a": 1})}) == 3
