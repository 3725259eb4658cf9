"""A journal never says "stored" of what is not, whatever becomes of its file."""

import random
from pathlib import Path

import pytest

from lensmesh_cli.ingest.journal import Journal, default_path, read_journal

OPTIONS = {"captions": "best-effort"}


def journal(path: Path, *, keep: bool = False, fresh: bool = False, said: list[str] | None = None) -> Journal:
    said = [] if said is None else said
    return Journal(path, said.append, keep=keep, fresh=fresh)


def write(path: Path, count: int, identity: str = "uid-1") -> None:
    with journal(path) as kept:
        kept.begin(identity, OPTIONS)
        for number in range(count):
            kept.add(Path(f"/in/{number}.jpg"), f"print-{number}", f"id-{number}")


def known(path: Path, identity: str = "uid-1", number: int = 0, keep: bool = False, **options: object) -> str:
    with journal(path, keep=keep) as kept:
        kept.begin(identity, {**OPTIONS, **options})
        return kept.known(Path(f"/in/{number}.jpg"), f"print-{number}")


def test_it_holds_for_the_same_collection_and_options_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    write(path, 2)
    assert known(path) == "id-0"
    assert known(path, number=1) == "id-1"
    assert known(path, number=2) == ""
    assert known(path, identity="uid-2") == ""
    assert known(path, identity="") == ""
    assert known(path, captions="none") == ""
    with journal(path, fresh=True) as kept:
        kept.begin("uid-1", OPTIONS)
        assert kept.known(Path("/in/0.jpg"), "print-0") == ""


def test_a_collection_without_identity_is_never_remembered(tmp_path: Path) -> None:
    write(tmp_path / "journal", 1, identity="")
    assert known(tmp_path / "journal", identity="") == ""
    assert known(tmp_path / "journal") == ""


def test_a_file_of_before_there_were_identities_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text('{"path": "/in/0.jpg", "print": "print-0", "id": "id-0"}\n')
    assert known(tmp_path / "journal") == ""


def test_what_is_finished_is_sent_again_and_still_told_of(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    write(path, 3)
    with journal(path) as kept:
        kept.begin("uid-1", OPTIONS)
        kept.drop(["/in/2.jpg"])
        kept.finished()
    assert known(path) == ""
    with journal(path) as kept:
        kept.begin("uid-1", OPTIONS)
        assert dict(kept.of_this_collection()) == {"/in/0.jpg": "id-0", "/in/1.jpg": "id-1"}


def test_a_named_journal_goes_on_counting(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    write(path, 1)
    with journal(path, keep=True) as kept:
        kept.begin("uid-1", OPTIONS)
        kept.finished()
    assert known(path, keep=True) == "id-0"


def test_many_runs_do_not_let_it_grow(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    for _ in range(10):
        with journal(path) as kept:
            kept.begin("uid-1", OPTIONS)
            for number in range(50):
                kept.add(Path(f"/in/{number}.jpg"), f"print-{number}", f"id-{number}")
            kept.finished()
    assert len(path.read_text().splitlines()) < 300
    assert len(read_journal(path)[0]) == 50


def test_damage_loses_little_and_invents_nothing(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    write(path, 20)
    whole = path.read_bytes()
    chance = random.Random(7)
    for _ in range(60):
        damaged = bytearray(whole)
        for _ in range(chance.randrange(1, 4)):
            at = chance.randrange(len(damaged))
            if chance.random() < 0.3:
                del damaged[at:]
                damaged += b"\xff\x00"
            else:
                damaged[at] = chance.randrange(256)
        path.write_bytes(damaged)
        with journal(path) as kept:
            kept.begin("uid-1", OPTIONS)
            for number in range(20):
                # A changed id is still asked for in the mesh before anything is skipped.
                assert kept.known(Path(f"/in/{number}.jpg"), "another print") == ""
                kept.known(Path(f"/in/{number}.jpg"), f"print-{number}")
            kept.add(Path("/in/new.jpg"), "new", "new-id")
        with journal(path) as kept:
            kept.begin("uid-1", OPTIONS)
            assert kept.known(Path("/in/new.jpg"), "new") == "new-id"


def test_where_none_can_be_kept_it_is_said_once(tmp_path: Path) -> None:
    said: list[str] = []
    with journal(Path("/proc/nope/journal"), said=said) as kept:
        kept.begin("uid-1", OPTIONS)
        kept.add(Path("/in/0.jpg"), "print", "id")
        kept.finished()
    assert len(said) == 1
    assert "no journal is kept" in said[0]
    with pytest.raises(OSError, match="nope"):
        journal(Path("/proc/nope/journal"), keep=True)
    with pytest.raises(OSError, match="not a file"):
        journal(Path("/dev/zero"), keep=True)


def test_a_disk_that_fills_up_ends_the_journal_not_the_run(tmp_path: Path) -> None:
    said: list[str] = []
    with journal(tmp_path / "journal", said=said) as kept, Path("/dev/full").open("w") as full:
        assert kept._file is not None
        kept._file.close()
        kept._file = full
        kept.begin("uid-1", OPTIONS)
        for number in range(3):
            kept.add(Path(f"/in/{number}.jpg"), "print", "id")
    assert len(said) == 1
    assert "free some space" in said[0]


def test_each_mesh_collection_and_set_of_paths_has_its_own(tmp_path: Path) -> None:
    one = default_path("a:1", "c", [tmp_path])
    assert default_path("a:1", "c", [tmp_path]) == one
    assert len({one, default_path("b:1", "c", [tmp_path]), default_path("a:1", "d", [tmp_path])}) == 3
