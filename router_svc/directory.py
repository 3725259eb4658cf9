"""Who serves what: which encoders answer in a vector space, which captioners run a model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh_chassis.errors import PreconditionFailed
from lensmesh_chassis.reasons import Reason
from router_svc.cut import CallLimits
from router_svc.peers.faults import unavailable
from router_svc.peers.kinds import Kind
from router_svc.peers.replica import Replica
from router_svc.peers.roster import Roster

# A request for something unknown may ask all replicas again, but not more often than this.
FRESH_S = 1.0


@dataclass(frozen=True, slots=True)
class Serving:
    """Who does one kind of work, and how much of it they take in one call."""

    targets: tuple[str, ...]
    limits: CallLimits


class Directory:
    """What the mesh serves, by the last answers of its replicas.

    A replica that is away keeps what it last served: work for it waits instead of being refused for good.
    """

    def __init__(self, roster: Roster, *, default_space: str, own_limits: CallLimits) -> None:
        self._roster = roster
        self._default_space = default_space
        self._own_limits = own_limits

    def models(self) -> list[encoder_pb2.ServedModel]:
        """Every model of every encoder with all its spaces, the default first."""
        found: dict[tuple[str, str], encoder_pb2.ServedModel] = {}
        for served in self._served(self._roster.replicas(Kind.ENCODER)):
            have = found.setdefault((served.model.name, served.model.weights_digest), served)
            more = [space for space in served.spaces if space.id not in {known.id for known in have.spaces}]
            if more:
                joined = encoder_pb2.ServedModel()
                joined.CopyFrom(have)
                joined.spaces.extend(more)
                found[served.model.name, served.model.weights_digest] = joined
        default = self._default_space
        return sorted(found.values(), key=lambda served: default not in {space.id for space in served.spaces})

    def spaces(self) -> list[common_pb2.VectorSpace]:
        """Every space that an encoder answers in, the default first."""
        found = {space.id: space for served in self.models() for space in served.spaces}
        return sorted(found.values(), key=lambda space: space.id != self._default_space)

    def caption_models(self) -> list[common_pb2.ModelInfo]:
        """Every captioner's models, the default first."""
        found: dict[tuple[str, str], common_pb2.ModelInfo] = {}
        for replica in self._roster.replicas(Kind.CAPTIONER):
            for model in replica.info.models if replica.info else ():
                found.setdefault((model.name, model.weights_digest), model)
        return list(found.values())

    def max_caption_tokens(self) -> int:
        """The longest caption that every captioner writes, in tokens; 0: unknown."""
        told = [
            replica.info.limits.max_caption_tokens for replica in self._roster.replicas(Kind.CAPTIONER) if replica.info
        ]
        return min((limit for limit in told if limit), default=0)

    def stored_at_once(self) -> int:
        """Items that every search service writes in one transaction, as far as is known."""
        told = [replica.info.limits.max_items for replica in self._roster.replicas(Kind.SEARCH) if replica.info]
        return min([self._own_limits.max_items, *(limit for limit in told if limit)])

    async def default_space(self) -> common_pb2.VectorSpace:
        """The space of a request that names none. Unavailable while no encoder has told its spaces."""
        await self._learn(Kind.ENCODER, lambda: bool(self.spaces()))
        spaces = self.spaces()
        if self._default_space and spaces and spaces[0].id != self._default_space:
            await self.encoders(self._default_space)
            spaces = self.spaces()
        if not spaces:
            raise unavailable(Kind.ENCODER, self._roster.targets(Kind.ENCODER))
        return spaces[0]

    async def encoders(self, space_id: str) -> Serving:
        """Who answers in a space.

        PreconditionFailed with reason SPACE_NOT_SERVED if nobody does, Unavailable if one that has not told may.
        """

        def serves(replica: Replica) -> bool:
            spaces = (space for served in self._served([replica]) for space in served.spaces)
            return any(space.id == space_id for space in spaces)

        serving = await self._find(Kind.ENCODER, serves)
        if serving is None:
            known = ", ".join(f"{space.id} ({space.model})" for space in self.spaces())
            raise PreconditionFailed(
                Reason.SPACE_NOT_SERVED,
                f"no encoder here answers in the space {space_id}; served are: {known}",
                metadata={"space_id": space_id, "served": ",".join(space.id for space in self.spaces())},
            )
        return serving

    async def captioners(self, model: str) -> Serving:
        """Who runs a captioning model; empty means the default one. Errors as of `encoders`, with MODEL_NOT_SERVED."""

        def runs(replica: Replica) -> bool:
            models = replica.info.models if replica.info else ()
            return any(info.name == model for info in models) if model else bool(models)

        if not model:
            await self._learn(Kind.CAPTIONER, lambda: bool(self.caption_models()))
            model = next((info.name for info in self.caption_models()), "")
        serving = await self._find(Kind.CAPTIONER, runs)
        if serving is None:
            known = ", ".join(info.name for info in self.caption_models())
            raise PreconditionFailed(
                Reason.MODEL_NOT_SERVED,
                f"no captioner here runs the model {model!r}; served are: {known}",
                metadata={"model": model, "served": known},
            )
        return serving

    async def _find(self, kind: Kind, suits: Callable[[Replica], bool]) -> Serving | None:
        await self._learn(kind, lambda: any(suits(replica) for replica in self._roster.replicas(kind)))
        suiting = [replica for replica in self._roster.replicas(kind) if suits(replica)]
        if suiting:
            targets = tuple(dict.fromkeys(replica.address.target for replica in suiting))
            return Serving(targets, self._call_limits(suiting))
        if self._strangers(kind) or not self._roster.targets(kind):
            raise unavailable(kind, self._roster.targets(kind))
        return None

    async def _learn(self, kind: Kind, enough: Callable[[], bool]) -> None:
        if not enough() and self._roster.targets(kind):
            await self._roster.refresh(FRESH_S)

    def _strangers(self, kind: Kind) -> list[str]:
        """Targets of which nobody has ever told what it serves."""
        return [
            target
            for target in self._roster.targets(kind)
            if not any(replica.info for replica in self._roster.replicas(kind, target))
        ]

    @staticmethod
    def _served(replicas: Sequence[Replica]) -> list[encoder_pb2.ServedModel]:
        return [served for replica in replicas if replica.info for served in replica.info.served]

    def _call_limits(self, replicas: Sequence[Replica]) -> CallLimits:
        told = [replica.info.limits for replica in replicas if replica.info]
        return CallLimits(
            min([self._own_limits.max_items, *(limits.max_items for limits in told if limits.max_items)]),
            min(
                [self._own_limits.max_bytes, *(limits.max_message_bytes for limits in told if limits.max_message_bytes)]
            ),
        )
