"""The real grpcurl, as a user has it: what it lists, what it describes, and every command of the cookbook."""

import asyncio
import json
import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor, ServiceDescriptor

from lensmesh_chassis import contract
from lensmesh_chassis.process.server import running
from lensmesh_cli.demo.samples import draw_scenes
from lensmesh_client import Client, IngestItem
from router_svc.app import RouterApp
from router_svc.settings import RouterSettings
from tests.mesh.conftest import running_mesh
from tests.mesh.cookbook import Recipe, recipes, same
from tests.support.certificates import Authority
from tests.support.tools import need

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
PAGE = (ROOT / "docs" / "grpcurl.md").read_text()
SHOWN = {
    "router": "localhost:50050",
    "encoder": "localhost:50051",
    "caption": "localhost:50052",
    "search": "localhost:50053",
}
TLS_SHOWN, MUTUAL_SHOWN = ":50443", ":50444"
PATIENCE_S = 300.0
BEHIND = {"lensmesh.encoder.v1": "encoder", "lensmesh.caption.v1": "caption", "lensmesh.search.v1": "search"}


async def shell(command: str, folder: Path) -> str:
    """What bash prints, as on a terminal, with grpcurl on its path."""
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        command,
        cwd=folder,
        env={**os.environ, "PATH": f"{need('grpcurl').parent}:{os.environ['PATH']}"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(PATIENCE_S):
        out, _ = await process.communicate()
    return out.decode()


async def grpcurl(*arguments: str) -> str:
    """What it prints; it must end well."""
    process = await asyncio.create_subprocess_exec(
        need("grpcurl"), "-plaintext", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(PATIENCE_S):
        out, error = await process.communicate()
    assert process.returncode == 0, f"{arguments}: {error.decode()}"
    return out.decode()


async def test_every_service_is_listed_with_all_its_methods(mesh: dict[str, str]) -> None:
    for service in contract.services():
        at = {mesh["router"], mesh[BEHIND.get(service.file.package, "router")]}
        for address in sorted(at):
            assert service.full_name in (await grpcurl(address, "list")).split()
            methods = (await grpcurl(address, "list", service.full_name)).split()
            assert methods == sorted(f"{service.full_name}.{method.name}" for method in service.methods)


async def test_everything_can_be_described(mesh: dict[str, str]) -> None:
    """Each service, and each message that one of its methods reaches, from the router alone."""
    for service in contract.services():
        told = await grpcurl(mesh["router"], "describe", service.full_name)
        assert all(f"rpc {method.name} (" in told for method in service.methods)
        names = sorted(_reached(service))
        answers = await asyncio.gather(*(grpcurl(mesh["router"], "describe", name) for name in names))
        assert [
            name for name, answer in zip(names, answers, strict=True) if f"{name} is a message:" not in answer
        ] == []


def _reached(service: ServiceDescriptor) -> set[str]:
    """Names of messages. A map's entries are none of them: they are described with the message that has the map."""
    found: set[str] = set()
    seen: set[str] = set()
    todo: list[Descriptor] = [end for method in service.methods for end in (method.input_type, method.output_type)]
    while todo:
        message = todo.pop()
        if message.full_name not in seen:
            seen.add(message.full_name)
            if not message.GetOptions().map_entry:
                found.add(message.full_name)
            todo += [field.message_type for field in message.fields if field.message_type]
    return found


def test_the_cookbook_calls_every_method() -> None:
    called = set(re.findall(r"(lensmesh\.\w+\.v1\.\w+/\w+)", "\n".join(recipe.command for recipe in recipes(PAGE))))
    assert called == {
        f"{service.full_name}/{method.name}" for service in contract.services() for method in service.methods
    }


@asynccontextmanager
async def doors(mesh: dict[str, str], folder: Path) -> AsyncIterator[dict[str, str]]:
    """Two more routers on the same mesh, with TLS and with mutual TLS and a unix socket, and the page's names of all.

    The certificates and the socket lie in `folder`, as the page has them.
    """
    authority = Authority(folder / "authority", "cookbook")
    server, client = authority.issue("server"), authority.issue("client")
    for name, path in (("ca.pem", authority.file), ("client.pem", client.certificate), ("client.key", client.key)):
        shutil.copy(path, folder / name)
    with tempfile.TemporaryDirectory(prefix="lensmesh-") as short:
        tls = RouterSettings(
            listen="127.0.0.1:0",
            encoder_targets=mesh["encoder"],
            caption_targets=mesh["caption"],
            search_targets=mesh["search"],
            tls_certificate_file=server.certificate,
            tls_key_file=server.key,
        )
        both = {"listen": f"127.0.0.1:0,unix:{short}/router.sock", "tls_client_ca_file": authority.file}
        async with (
            running(tls, RouterApp, "router") as one,
            running(tls.model_copy(update=both), RouterApp, "router") as mutual,
        ):
            (folder / "router.sock").symlink_to(f"{short}/router.sock")
            yield {
                **{shown: mesh[name] for name, shown in SHOWN.items()},
                TLS_SHOWN: f":{one.address.rpartition(':')[2]}",
                MUTUAL_SHOWN: f":{mutual.address.rpartition(':')[2]}",
            }


async def printed(each: Sequence[Recipe], places: dict[str, str], folder: Path) -> list[str]:
    """What each recipe prints, one after the other, with the page's addresses in it."""
    outputs = []
    for recipe in each:
        command = recipe.command
        for shown, real in places.items():
            command = command.replace(shown, real)
        output = await shell(command, folder)
        for shown, real in places.items():
            output = output.replace(real, shown)
        outputs.append(output)
    return outputs


async def test_every_command_of_the_cookbook_prints_what_it_shows(mesh: dict[str, str], tmp_path: Path) -> None:
    need("grpcurl"), need("jq")
    each = recipes(PAGE)
    async with doors(mesh, tmp_path) as places:
        outputs = await printed(each, places, tmp_path)
    wrong = [
        f"docs/grpcurl.md:{recipe.line}\n$ {recipe.command}\nprinted:\n{output}"
        for recipe, output in zip(each, outputs, strict=True)
        if not same(recipe.output, output, ordered=not recipe.streams)
    ]
    assert not wrong, "\n\n".join(wrong)


async def drop_default_collection(search: str) -> None:
    """Other tests make it too, with other models. Deleting what is not there is no error."""
    await grpcurl("-d", '{"name": "default"}', search, "lensmesh.search.v1.SearchService/DeleteCollection")


async def test_the_readmes_calls_print_what_it_shows(database: str, tmp_path: Path) -> None:
    """With the bundled models, as the README has it, on a few of the scenes that the demo draws."""
    samples = [one for one in draw_scenes(90, tmp_path / "scenes") if "rings" in one.words]
    each = [recipe for recipe in recipes(README) if "grpcurl" in recipe.command]
    async with running_mesh(database, model="shapes") as mesh:
        await drop_default_collection(mesh["search"])
        async with Client(mesh["router"], timeout_s=PATIENCE_S) as client:
            for sample in samples:
                await client.ingest(IngestItem(sample.path, metadata=sample.metadata))
        shown = {SHOWN["router"]: mesh["router"]}
        outputs = await printed(each, shown, tmp_path)
        [inline] = re.findall(r"`(grpcurl -plaintext[^`]*)`", README)
        [readable] = await printed([Recipe(inline.replace("\n", " "), "", 0)], shown, tmp_path)
        await drop_default_collection(mesh["search"])
    for recipe, output in zip(each, outputs, strict=True):
        assert same(recipe.output, output), f"README.md:{recipe.line}\n$ {recipe.command}\nprinted:\n{output}"
    assert len(each) == 1
    assert len(json.loads(readable)["results"][0]["embedding"]["floats"]) == 160


@pytest.mark.parametrize(
    ("shown", "output", "ordered", "expected"),
    [
        ("a\n...\nc", "a\nb\nb\nc", True, True),
        ("a\n...\nc", "a\nb", True, False),
        ("a", "a\nb", True, False),
        ("", "a", True, False),
        ("b\na", "a\nb", True, False),
        ("b\na", "a\nb", False, True),
        ("b\nc", "a\nb", False, False),
        ('"data": "ab..."', '"data": "abcd"', True, True),
        ('"data": "ab..."', '"data": "bcd"', True, False),
        ("", "a", False, False),
        ('"score": 0.5', '"score": 0.504', True, True),
        ('"score": 0.5', '"score": 0.52', True, False),
        ('"start_time": "x"', '"start_time": "y"', True, True),
        ('"id": "x"', '"id": "y"', True, False),
    ],
)
def test_a_difference_is_seen(shown: str, output: str, ordered: bool, expected: bool) -> None:
    assert same(shown, output, ordered=ordered) is expected
