"""Other servers with the same weights on the same machine: as documented, and with our backend and precision."""

from __future__ import annotations

from collections.abc import Callable

from bench.cases.images import of
from bench.measure import Case
from bench.peers.environment import LITSERVE, TRITON, Peer, PeerMissingError, prepare
from bench.stage import Stage
from bench.worker import WorkerError

TITLES = {"triton": "Triton (pytriton)", "litserve": "LitServe"}


async def peers(stage: Stage, missing: dict[str, str], say: Callable[[str], None]) -> list[Case]:
    """Make the cases of those peers that can be installed. Why others cannot is written to `missing`."""
    cases = []
    for peer in (TRITON, LITSERVE):
        try:
            cases += await _peer(stage, peer)
        except (PeerMissingError, WorkerError) as error:
            missing[peer.name] = str(error)
            say(f"{peer.name} is left out: {error}")
    return cases


async def _peer(stage: Stage, peer: Peer) -> list[Case]:
    python = await prepare(peer)
    documented = await stage.peer(peer.name, python, equal=False)
    equal = await stage.peer(peer.name, python, equal=True)
    # Twice a batch: while one is computed, the next one fills.
    callers = 2 * stage.options.batch
    title = TITLES[peer.name]
    return [
        of(documented, peer.name, f"{title} as documented", "images", concurrency=callers),
        of(equal, f"{peer.name}-equal", f"{title}, our backend and precision", "images", concurrency=callers),
    ]
