"""Listening addresses: "host:port", "[v6]:port" or "unix:/path", and what to say when a server cannot listen."""

import errno
import os
import socket
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

from lensmesh_chassis.errors import Unavailable
from lensmesh_chassis.reasons import Reason


def longest_unix_path(platform: str) -> int:
    """Return how many bytes the path of a socket may have: sockaddr_un.sun_path without the closing zero."""
    return 103 if platform == "darwin" else 107


MAX_UNIX_PATH_BYTES = longest_unix_path(sys.platform)


@dataclass(frozen=True)
class ListenAddress:
    """A listening address: `path` for a unix socket, else `host` and `port`, where port 0 asks for a free one."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> ListenAddress:
    """Read one address. Raises ValueError whose text says what is expected."""
    text = text.strip()
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        path = path.removeprefix("//") if path.startswith("///") else path
        if not path:
            raise ValueError(f"{text!r} has no path: write unix:/run/lensmesh/encoder.sock")
        size = len(os.fsencode(path))
        if size > MAX_UNIX_PATH_BYTES:
            raise ValueError(
                f"the unix socket path {path} has {size} bytes and the system takes {MAX_UNIX_PATH_BYTES}: "
                "use a folder with a shorter name"
            )
        return ListenAddress(path=path)
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r} is no address: write an IPv6 host in brackets, [::1]:50051")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"{text!r} is no address: write host:port (port 0 to 65535) or unix:/path")
    return ListenAddress(host=host, port=int(port))


def parse_addresses(text: str) -> tuple[ListenAddress, ...]:
    """Read a comma-separated list of at least one address. Raises ValueError."""
    parts = [part for part in text.split(",") if part.strip()]
    if not parts:
        raise ValueError("no address given: write host:port or unix:/path")
    return tuple(parse_address(part) for part in parts)


def clear_stale_socket(address: ListenAddress) -> None:
    """Remove a socket file that nobody listens on any more. gRPC itself would take it away from a living server too.

    Raises Unavailable where somebody listens, or where the file is no socket.
    """
    path = Path(address.path)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise _cannot_listen(address, f"the folder {path.parent} does not exist: create it") from None
        return
    if not stat.S_ISSOCK(mode):
        raise _cannot_listen(address, "a file that is no socket lies there: remove it or choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(address.path)
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except FileNotFoundError:
            return
        except OSError as error:
            raise _cannot_listen(address, f"{error.strerror}: remove the file or choose another path") from error
    raise _cannot_listen(address, "another server listens there: stop it or choose another path")


def explain_bind_failure(address: ListenAddress, setting: str) -> Unavailable:
    """Find out why gRPC could not listen on `address`: gRPC does not say. `setting` names what to change."""
    if address.path:
        return _cannot_listen(address, f"check that {Path(address.path).parent} can be written, or change {setting}")
    try:
        try_to_listen(address)
    except OSError as error:
        return _cannot_listen(address, why_not_bound(error, setting))
    return _cannot_listen(address, f"the port was in use a moment ago: start again or change {setting}")


def try_to_listen(address: ListenAddress) -> None:
    """Listen on a TCP address for a moment. Raises OSError where that is refused."""
    family, kind, protocol, _, where = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        # Connections of a server that ended a moment ago may linger.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(where)
        probe.listen(1)


def why_not_bound(error: OSError, setting: str) -> str:
    """Explain why an operating system refused to listen, and what to do. `setting` names what to change."""
    if isinstance(error, socket.gaierror):
        return f"the host name is unknown: change {setting}"
    return {
        errno.EADDRINUSE: f"the port is in use: stop the other process (`ss -ltnp` names it) or change {setting}",
        errno.EADDRNOTAVAIL: f"this machine has no such address: change {setting}",
        errno.EACCES: f"the port needs privileges: choose one above 1023 by {setting}",
    }.get(error.errno or 0, f"{error.strerror}: change {setting}")


def _cannot_listen(address: ListenAddress, why: str) -> Unavailable:
    return Unavailable(Reason.NOT_READY, f"cannot listen on {address}: {why}", metadata={"address": address})
