"""Every replica of every target, asked again and again how it is and what it serves."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence

from lensmesh_chassis.channels import ChannelSecurity
from lensmesh_chassis.telemetry.logging import get_logger
from router_svc.upstreams.discovery import TargetAddress, resolve
from router_svc.upstreams.kinds import Kind
from router_svc.upstreams.replica import Condition, Info, Probe, Replica

log = get_logger(__name__)
# While a service is away, each failing call wants to know why: they share what was heard within this time.
_WHY_OLD_S = 0.5


class ReplicaMonitor:
    """The last known state of all replicas, by kind and target; targets stand in the order of the settings."""

    def __init__(
        self,
        targets: Mapping[Kind, Sequence[str]],
        *,
        security: ChannelSecurity | None,
        probe_s: float,
        refresh_s: float,
    ) -> None:
        self._targets = targets
        self._security = security
        self._probe_s = probe_s
        self._refresh_s = refresh_s
        self._probes: dict[tuple[Kind, TargetAddress], Probe] = {}
        self._replicas: dict[tuple[Kind, str], list[Replica]] = {}
        self._told: dict[tuple[Kind, str], tuple[Info, ...]] = {}
        self._round: asyncio.Task[None] | None = None
        self._asked_at = float("-inf")
        self._timer: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Ask once, then on a timer."""
        await self.refresh()
        self._timer = asyncio.create_task(self._refresh_forever())

    async def stop(self) -> None:
        """Stop asking and close every connection."""
        for task in (self._timer, self._round):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        for probe in self._probes.values():
            await probe.close()

    def targets(self, kind: Kind) -> Sequence[str]:
        """Return the configured targets of one kind, in order."""
        return self._targets[kind]

    def replicas(self, kind: Kind, target: str | None = None) -> list[Replica]:
        """Return the last known replicas of one target, or of all of one kind."""
        chosen = self._targets[kind] if target is None else [target]
        return [replica for name in chosen for replica in self._replicas.get((kind, name), [])]

    def told(self, kind: Kind, target: str) -> Sequence[Info]:
        """Return what the replicas of a target last told of themselves; empty where none of them ever did.

        It outlives the replicas: a name that does not resolve for a while, or whose new replicas have not told yet,
        still stands for what it served before.
        """
        return self._told.get((kind, target), ())

    def unreachable(self, kind: Kind, target: str) -> bool:
        """Tell whether no replica of a target answered when last asked; False of one that was never asked."""
        replicas = self.replicas(kind, target)
        return bool(replicas) and all(replica.condition is Condition.UNREACHABLE for replica in replicas)

    async def why(self, kind: Kind, targets: Sequence[str]) -> str:
        """Ask why the replicas of some targets do not serve: each reason once, as said now; "" where none says."""
        await self.refresh(older_than_s=_WHY_OLD_S)
        return self.reasons(kind, targets)

    def reasons(self, kind: Kind, targets: Sequence[str]) -> str:
        """Return why the replicas of some targets do not serve, as last heard."""
        replicas = [replica for target in targets for replica in self.replicas(kind, target)]
        reasons = [each.reason for each in replicas if each.condition is Condition.NOT_SERVING]
        return "; ".join(dict.fromkeys(reasons))

    async def refresh(self, older_than_s: float = 0.0) -> None:
        """Ask every replica unless that was done less than `older_than_s` ago. Callers at one time share a round."""
        if self._round is None:
            if asyncio.get_running_loop().time() - self._asked_at < older_than_s:
                return
            self._round = asyncio.create_task(self._ask_all())
            self._round.add_done_callback(self._end_round)
        # The round goes on for the others when this caller is cancelled. Not by `shield`, which since Python 3.14 logs
        # an error of what was left behind.
        asked = self._round
        await asyncio.wait((asked,))
        asked.result()

    def _end_round(self, asked: asyncio.Task[None]) -> None:
        if not asked.cancelled():
            # Looked at, or asyncio would log an error that all callers have left.
            asked.exception()
        self._round = None
        self._asked_at = asyncio.get_running_loop().time()

    async def _refresh_forever(self) -> None:
        while True:
            await asyncio.sleep(self._refresh_s)
            try:
                await self.refresh()
            except Exception:
                # What failed may work next time; without the timer the directory would never learn of it.
                log.exception("asking the services behind failed")

    async def _ask_all(self) -> None:
        pairs = [(kind, target) for kind, targets in self._targets.items() for target in targets]
        answers = await asyncio.gather(*(self._ask(kind, target) for kind, target in pairs))
        for pair, replicas in zip(pairs, answers, strict=True):
            self._replicas[pair] = replicas
            if told := tuple(replica.info for replica in replicas if replica.info):
                self._told[pair] = told
        known = {(replica.kind, replica.address) for replica in self._probes_of(answers)}
        for key in [key for key in self._probes if key not in known]:
            await self._probes.pop(key).close()

    @staticmethod
    def _probes_of(answers: Sequence[list[Replica]]) -> list[Replica]:
        return [replica for replicas in answers for replica in replicas]

    async def _ask(self, kind: Kind, target: str) -> list[Replica]:
        try:
            async with asyncio.timeout(self._probe_s):
                addresses = await resolve(target)
        except TimeoutError:
            addresses = [TargetAddress(target, target, failure=f"the name does not resolve within {self._probe_s:g} s")]
        probes = [
            self._probes.setdefault((kind, address), Probe(kind, address, self._security, self._probe_s))
            for address in addresses
        ]
        return one_family(await asyncio.gather(*(probe.ask() for probe in probes)))


def one_family(replicas: Sequence[Replica]) -> list[Replica]:
    """Return each replica once, where a name has addresses of both families: of IPv4, unless only IPv6 answers."""
    old = [replica for replica in replicas if not replica.address.is_ipv6]
    new = [replica for replica in replicas if replica.address.is_ipv6]
    if not old or not new:
        return list(replicas)
    return new if _any_answers(new) and not _any_answers(old) else old


def _any_answers(replicas: Sequence[Replica]) -> bool:
    return any(replica.condition is not Condition.UNREACHABLE for replica in replicas)
