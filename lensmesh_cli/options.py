"""Options that several commands share."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from lensmesh_chassis.contract import local_address
from lensmesh_cli.console import Exit, Repeats, fail, note
from lensmesh_cli.printable import printable

if TYPE_CHECKING:
    from lensmesh_client import ChannelSecurity, Client
    from lensmesh_client.connection import Connection

R = TypeVar("R")

MESH = "The mesh to ask"
# What the clocks of threads and of gRPC hold, and more than anybody waits: thirty years.
LONGEST_S = 1e9
# Longest wait for a collector at the end of a command, in seconds.
LAST_SPANS_S = 2.0
# As the client's own.
MAX_MESSAGE_BYTES = 32 << 20


class TransparencyChoice(StrEnum):
    """The values of lensmesh_client.Transparency, which is imported only when a command runs."""

    DROP = "drop"
    WHITE = "white"


def check_seconds(value: float) -> float:
    """Check a number of seconds: Python reads "nan" and "inf" too, and no clock takes them."""
    if not value <= LONGEST_S:
        raise typer.BadParameter(f"{value:g} is no time to wait: use at most {LONGEST_S:g} seconds")
    return value


Target = Annotated[
    str,
    typer.Option(
        "--target", envvar="LENSMESH_TARGET", help="The router: host:port or unix:/path.", rich_help_panel=MESH
    ),
]
CaFile = Annotated[
    str,
    typer.Option(
        "--ca-file",
        envvar="LENSMESH_CA_FILE",
        help="PEM file of the authorities that sign the router's certificate; turns TLS on.",
        rich_help_panel=MESH,
    ),
]
CertificateFile = Annotated[
    str,
    typer.Option(
        "--certificate-file",
        envvar="LENSMESH_CERTIFICATE_FILE",
        help="PEM file of your own certificate (mutual TLS).",
        rich_help_panel=MESH,
    ),
]
KeyFile = Annotated[
    str,
    typer.Option(
        "--key-file",
        envvar="LENSMESH_KEY_FILE",
        help="PEM file of that certificate's private key.",
        rich_help_panel=MESH,
    ),
]
Timeout = Annotated[
    float,
    typer.Option("--timeout", help="Seconds for one call.", min=0.01, callback=check_seconds, rich_help_panel=MESH),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output, for programs.")]
TransparencyOption = Annotated[
    TransparencyChoice | None,
    typer.Option(
        "--transparency",
        help="drop: see the colours under the alpha channel, as open_clip does; white: lay images on white, as a page "
        "shows them.",
        show_default=False,
    ),
]
Collection = Annotated[str, typer.Option("--collection", help="Collection; empty: the service's default.")]
CollectionArgument = Annotated[
    str, typer.Argument(metavar="COLLECTION", help="The collection, in place of --collection.", show_default=False)
]

DEFAULT_TARGET = local_address("router")


def one_collection(argument: str, option: str) -> str:
    """Return the collection that is named in one of two places. End the command where these name two."""
    if argument and option and argument != option:
        fail(f"two collections are named: {printable(argument)}, and --collection {printable(option)}", Exit.USAGE)
    return argument or option


@dataclass(frozen=True, slots=True)
class Connect:
    """The way to reach the mesh, as the options say."""

    target: str
    ca_file: str = ""
    certificate_file: str = ""
    key_file: str = ""
    timeout_s: float = 60.0
    say: Callable[[str], None] = note
    """A function that is told what is waited for, where an answer takes long."""

    def client(self) -> Client:
        """Return a client for the mesh. End the command where a certificate cannot be read."""
        from lensmesh_client import Client

        return Client(self.target, security=self.security(), timeout_s=self.timeout_s, on_wait=self._teller())

    def connection(self, *, silent: bool = False) -> Connection:
        """Return a plain connection to a router or to one service, for code that speaks a contract itself.

        The caller closes it.
        """
        from lensmesh_client.connection import Connection

        on_wait = None if silent else self._teller()
        return Connection(self.target, self.security(), self.timeout_s, MAX_MESSAGE_BYTES, on_wait)

    def _teller(self) -> Callable[[str], None]:
        repeats = Repeats(self.say)
        return lambda why: repeats.say(f"waiting: {why}")

    def security(self) -> ChannelSecurity:
        """Return the certificates. End the command where one cannot be read."""
        from lensmesh_client import ChannelSecurity

        if bool(self.certificate_file) != bool(self.key_file):
            fail("--certificate-file and --key-file go together", Exit.USAGE)
        for name in (self.ca_file, self.certificate_file, self.key_file):
            if name and not os.access(name, os.R_OK):
                fail(f"{name} cannot be read", Exit.USAGE)
        return ChannelSecurity(ca_file=self.ca_file, certificate_file=self.certificate_file, key_file=self.key_file)

    def run(self, work: Callable[[Client], Awaitable[R]]) -> R:
        """Run one asynchronous piece of work with a client. Its trace begins here where a collector is named."""
        from lensmesh_chassis.telemetry.tracing import MISSING, can_export, collector, start_tracing, stop_tracing

        async def run() -> R:
            async with self.client() as client:
                return await work(client)

        # Off, and nothing of it loaded, where no collector is named.
        provider = None
        if collector() and not can_export():
            # The variables may be meant for other programs of this shell.
            note(f"no traces of this command: {MISSING}")
        else:
            provider = start_tracing("cli", socket.gethostname())
        try:
            return asyncio.run(run())
        finally:
            stop_tracing(provider, LAST_SPANS_S)

    def run_connected(self, work: Callable[[Connection], Awaitable[R]]) -> R:
        """Do as `run` does, with the plain connection and without messages.

        It serves code that measures how long calls take.
        """

        async def run() -> R:
            connection = self.connection(silent=True)
            try:
                return await work(connection)
            finally:
                await connection.close()

        return asyncio.run(run())


def state_folder() -> Path:
    """Return the folder where the user's programs keep their state: XDG_STATE_HOME, or its default. Raises OSError."""
    home = os.environ.get("XDG_STATE_HOME")
    try:
        return (Path(home) if home else Path.home() / ".local" / "state") / "lensmesh"
    except RuntimeError:
        raise FileNotFoundError(errno.ENOENT, "this user has no home folder: set XDG_STATE_HOME") from None


def check_platform(command: str) -> None:
    """End a command that starts a mesh where none can run."""
    if sys.platform == "win32":
        fail(
            f"lensmesh {command} starts a mesh, and Windows runs none: use WSL2, or containers (docker compose up), "
            "and the other commands from here",
            Exit.FAILED,
        )


def check_writable(path: Path, option: str) -> None:
    """End the command now if the file could not be written at its end. A file that is there stays as it is."""
    from lensmesh_cli.disk import explain

    if path.exists() and not path.is_file() and not path.is_char_device():
        fail(f"{option}: {path} is no file that can be written: name another one", Exit.USAGE)
    there = os.path.lexists(path)
    try:
        with path.open("ab"):
            pass
        if not there:
            path.unlink()
    except OSError as error:
        fail(f"{option}: {explain(error, str(path))}", Exit.USAGE)
