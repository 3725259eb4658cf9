"""Targets as settings name them, and the addresses behind them."""

import asyncio
import socket
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TargetAddress:
    """A place where a replica of a target should answer."""

    target: str
    address: str
    """Address as gRPC connects to it: "10.1.2.3:50051", "[fd00::1]:50051", "unix:/run/encoder.sock"."""
    failure: str = ""
    """Text that says why there is no address at all, where the target's name does not resolve."""

    @property
    def host(self) -> str:
        """The name that a certificate of this replica is made for; empty where the target is an address itself."""
        return "" if self.target == self.address else self.target.rpartition(":")[0]

    @property
    def is_ipv6(self) -> bool:
        return self.address.startswith("[")


def parse_targets(text: str) -> tuple[str, ...]:
    """Read the targets of a comma-separated list, in order, each once. Raises ValueError naming the bad part."""
    targets: list[str] = []
    for part in (part.strip().removeprefix("dns:///") for part in text.split(",")):
        if not part:
            continue
        if not part.startswith("unix:"):
            host, colon, port = part.rpartition(":")
            if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
                raise ValueError(f"{part!r} is neither host:port nor unix:/path")
        if part not in targets:
            targets.append(part)
    return tuple(targets)


async def resolve(target: str) -> list[TargetAddress]:
    """Find every address of `target`; one without an address but with a reason where there is none."""
    if target.startswith("unix:"):
        return [TargetAddress(target, target)]
    host, _, port = target.rpartition(":")
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    except OSError as error:
        return [TargetAddress(target, target, failure=f"the name does not resolve: {error.strerror or error}")]
    names = {
        f"[{place[0]!s}]:{port}" if family == socket.AF_INET6 else f"{place[0]!s}:{port}"
        for family, _, _, _, place in found
    }
    return [TargetAddress(target, name) for name in sorted(names)]
