"""The command that an ingest prints for what lacks a caption: run as it stands, it fills exactly those."""

import dataclasses
import json
import os
import subprocess
import sysconfig
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from lensmesh_cli.again import shell_word
from lensmesh_client import Client, IngestResult
from lensmesh_client.errors import Reason, Unavailable
from tests.cli.in_process import User
from tests.support.meshes import draw_images, environment

NAMES = ('it\'s a "name"', "two\nlines", "\udcff.png", "\x1b]0;title\x07", "\\n $HOME `id` \t'", "\u202etxt", "-x")


def bash(line: str, folder: Path, **settings: str) -> subprocess.CompletedProcess[bytes]:
    """One line of a shell that finds the command, and has no settings of the mesh but these."""
    env = environment(**settings)
    env["PATH"] = os.pathsep.join([sysconfig.get_path("scripts"), env["PATH"]])
    return subprocess.run(["bash", "-c", line], env=env, cwd=folder, capture_output=True, check=False)


def test_a_shell_reads_each_name_as_it_is(tmp_path: Path) -> None:
    line = " ".join(map(shell_word, NAMES))
    assert line.isprintable()
    assert bash(rf"printf '%s\0' {line}", tmp_path).stdout.split(b"\0")[:-1] == [os.fsencode(name) for name in NAMES]


def test_the_printed_command_fills_what_lacks_a_caption(
    user: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, more = tmp_path / "it's\nin", tmp_path / "more"
    paths = draw_images(images, 5, start=600)
    draw_images(more, 2, start=700)
    (images / "linked").symlink_to(more, target_is_directory=True)
    about = tmp_path / "about these.jsonl"
    about.write_text(json.dumps({"path": paths[0].name, "year": 1870}))
    sent = Client.ingest_many
    lacking = {paths[1].as_uri(), paths[3].as_uri()}

    async def without(client: Client, items: Any, **options: Any) -> AsyncGenerator[IngestResult]:
        uris: list[str] = []

        async def noted() -> AsyncGenerator[Any]:
            async for item in items:
                uris.append(item.image_uri)
                yield item

        away = Unavailable(Reason.CAPTIONER_UNAVAILABLE, "no captioner answers")
        async for result in sent(client, noted(), **options):
            lacks = uris[result.index] in lacking
            yield dataclasses.replace(result, caption=None, caption_error=away) if lacks else result

    monkeypatch.setattr(Client, "ingest_many", without)
    monkeypatch.chdir(tmp_path)
    options = ["--collection", "again", "--metadata", about.name, "--replace-metadata", "--transparency", "white"]
    options += ["--exclude", "p0602*", "--exclude", "*.g?f", "--follow", "--file-timeout", "20", "--timeout", "50"]
    done = user.run("ingest", images.name, *options, "--captions", "best-effort", "--fresh")
    assert done.code == 4, done.err
    line = done.err.split("this sends exactly those: ")[1].splitlines()[0]

    # The target came by the environment, which another shell does not have.
    again = bash(f"{line} --json", tmp_path, XDG_STATE_HOME=str(user.state))
    told = json.loads(again.stdout)
    assert (told["stored"], told["skipped"], told["without_caption"]) == (2, 4, 0), again.stderr
    assert again.returncode == 0
