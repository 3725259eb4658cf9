"""Directory of who serves what: which encoders answer in a vector space, which captioners run a model."""

import operator
from collections.abc import Sequence
from dataclasses import dataclass

from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh_chassis.errors import LensmeshError, PreconditionFailed, Unavailable
from lensmesh_chassis.images.inputs import check_transparency
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.telemetry.logging import get_logger
from router_svc.cut import CallLimits
from router_svc.upstreams.errors import unavailable
from router_svc.upstreams.kinds import Kind
from router_svc.upstreams.monitor import ReplicaMonitor
from router_svc.upstreams.replica import Condition, Info

log = get_logger(__name__)

# A request for something unknown may ask all replicas again, but not more often than this.
FRESH_S = 1.0


def policy_of(space: common_pb2.VectorSpace) -> common_pb2.TransparencyPolicy.ValueType:
    """Tell what becomes of transparency in a space; those of before there was a choice do not say it."""
    return space.transparency or common_pb2.TRANSPARENCY_POLICY_DROP


@dataclass(frozen=True, slots=True)
class ModelTargets:
    """Targets that do one kind of work, and how much of it they take in one call."""

    targets: tuple[str, ...]
    limits: CallLimits


class ModelDirectory:
    """Directory of what the mesh serves, by the last answers of its replicas.

    A replica that is away keeps what it last served: work for it waits instead of being refused for good. The default
    space and the default captioning model are those of the first target. Until it has told them there are none: taking
    another target's for the time being would store vectors of the wrong model for good.
    """

    def __init__(self, monitor: ReplicaMonitor, *, default_space: str, own_limits: CallLimits) -> None:
        self._monitor = monitor
        self._chosen_space = default_space
        self._own_limits = own_limits
        self._defaults: dict[Kind, str] = {}
        """VectorSpace.id and ModelInfo.name that the first targets' defaults are, once they have told."""
        self._found: dict[tuple[Kind, str], tuple[list[Sequence[Info]], ModelTargets]] = {}
        """By VectorSpace.id or ModelInfo.name: what replicas had told, and who serves it by that."""

    def models(self) -> list[encoder_pb2.ServedModel]:
        """Return every model of every encoder with all its spaces, the default first."""
        found: dict[tuple[str, str], encoder_pb2.ServedModel] = {}
        for served in _served(self._infos(Kind.ENCODER)):
            have = found.setdefault((served.model.name, served.model.weights_digest), served)
            more = [space for space in served.spaces if space.id not in {known.id for known in have.spaces}]
            if more:
                joined = encoder_pb2.ServedModel()
                joined.CopyFrom(have)
                joined.spaces.extend(more)
                found[served.model.name, served.model.weights_digest] = joined
        default = self._default(Kind.ENCODER)
        return sorted(found.values(), key=lambda served: default not in {space.id for space in served.spaces})

    def spaces(self) -> list[common_pb2.VectorSpace]:
        """Return every space that an encoder answers in, the default first."""
        found = {space.id: space for served in self.models() for space in served.spaces}
        default = self._default(Kind.ENCODER)
        return sorted(found.values(), key=lambda space: space.id != default)

    def caption_models(self) -> list[common_pb2.ModelInfo]:
        """Return every captioner's models, the default first."""
        found: dict[tuple[str, str], common_pb2.ModelInfo] = {}
        for info in self._infos(Kind.CAPTIONER):
            for model in info.models:
                found.setdefault((model.name, model.weights_digest), model)
        default = self._default(Kind.CAPTIONER)
        return sorted(found.values(), key=lambda model: model.name != default)

    def label_scoring(self, space_id: str) -> encoder_pb2.LabelScoring.ValueType:
        """Return how the model of a space makes probabilities of labels; unspecified where no encoder says it."""
        told = [
            served.label_scoring
            for served in _served(self._infos(Kind.ENCODER))
            if any(space.id == space_id for space in served.spaces)
        ]
        return next(filter(None, told), encoder_pb2.LABEL_SCORING_UNSPECIFIED)

    def common_feature_kind(self) -> common_pb2.LocalFeatureKind.ValueType:
        """Return the local features that all encoders make; unspecified where one makes none, or others."""
        told = {info.local_feature_kind for info in self._infos(Kind.ENCODER) if info.served}
        return told.pop() if len(told) == 1 else common_pb2.LOCAL_FEATURE_KIND_UNSPECIFIED

    def max_caption_tokens(self) -> int:
        """Return the longest caption that every captioner writes, in tokens; 0: unknown."""
        told = [info.limits.max_caption_tokens for info in self._infos(Kind.CAPTIONER)]
        return min((limit for limit in told if limit), default=0)

    def stored_at_once(self) -> int:
        """Return how many items every search service writes in one transaction, as far as is known."""
        told = [info.limits.max_items for info in self._infos(Kind.SEARCH)]
        return min([self._own_limits.max_items, *(limit for limit in told if limit)])

    def comes_back(self, kind: Kind) -> bool:
        """Tell whether a service that is away is known to come back: it was there before, or it loads its model."""
        loads = any(replica.condition is Condition.NOT_SERVING for replica in self._monitor.replicas(kind))
        return loads or bool(self._infos(kind))

    async def default_space(self) -> common_pb2.VectorSpace:
        """Return the space of a request that names none. Unavailable while the first encoder has not told."""
        space_id = self._default(Kind.ENCODER) or await self._default_asked_again(Kind.ENCODER)
        if not space_id:
            raise self._undecided(Kind.ENCODER, "space", "default_space names a VectorSpace.id")
        await self.encoders(space_id)
        return next(space for space in self.spaces() if space.id == space_id)

    async def default_caption_model(self) -> str:
        """Return the model of a request that names none. Unavailable while the first captioner has not told."""
        model = self._default(Kind.CAPTIONER) or await self._default_asked_again(Kind.CAPTIONER)
        if not model:
            raise self._undecided(Kind.CAPTIONER, "model", "a request names its model")
        return model

    async def space_with(self, policy: common_pb2.TransparencyPolicy.ValueType) -> common_pb2.VectorSpace:
        """Return the default space, or that of the default model that differs from it in its transparency policy alone.

        Unspecified means the default space. Errors as of `default_space`, PreconditionFailed with reason
        SPACE_NOT_SERVED where the model has no such space, and InvalidInput for a number that the contract does not
        know.
        """
        check_transparency(policy)
        default = await self.default_space()
        if policy in (common_pb2.TRANSPARENCY_POLICY_UNSPECIFIED, policy_of(default)):
            return default
        for space in self.spaces():
            if policy_of(space) == policy and _without_policy(space) == _without_policy(default):
                return space
        name = common_pb2.TransparencyPolicy.Name(policy)
        raise PreconditionFailed(
            Reason.SPACE_NOT_SERVED,
            f"no encoder here serves {default.model} with {name}: update the encoders, or leave transparency out",
            field="options.transparency",
            metadata={"transparency": name, "model": default.model},
        )

    async def encoders(self, space_id: str) -> ModelTargets:
        """Tell who answers in a space.

        PreconditionFailed with reason SPACE_NOT_SERVED if nobody does, Unavailable if one that has not told may.
        """
        serving = await self._find(Kind.ENCODER, space_id)
        if serving is None:
            known = ", ".join(f"{space.id} ({space.model})" for space in self.spaces())
            raise PreconditionFailed(
                Reason.SPACE_NOT_SERVED,
                f"no encoder here answers in the space {space_id}; served are: {known}",
                metadata={"space_id": space_id, "served": ",".join(space.id for space in self.spaces())},
            )
        return serving

    async def local_feature_kind(self, space_id: str) -> common_pb2.LocalFeatureKind.ValueType:
        """Tell what local features the encoders of a space make; unspecified where they differ.

        PreconditionFailed with reason LOCAL_FEATURES_UNSUPPORTED where none of them makes any.
        """
        kinds = self._feature_kinds(space_id)
        if not any(kinds):
            await self._ask_again(Kind.ENCODER)
            kinds = self._feature_kinds(space_id)
        if not any(kinds):
            raise PreconditionFailed(
                Reason.LOCAL_FEATURES_UNSUPPORTED,
                f"no encoder here that answers in the space {space_id} makes local features: install lensmesh[match]"
                " there, or update it",
                metadata={"space_id": space_id},
            )
        return kinds.pop() if len(kinds) == 1 else common_pb2.LOCAL_FEATURE_KIND_UNSPECIFIED

    def _feature_kinds(self, space_id: str) -> set[common_pb2.LocalFeatureKind.ValueType]:
        return {info.local_feature_kind for info in self._infos(Kind.ENCODER) if space_id in _names(info)}

    async def captioners(self, model: str) -> ModelTargets:
        """Tell who runs a captioning model; empty: the default one. Errors as of `encoders`, with MODEL_NOT_SERVED."""
        model = model or await self.default_caption_model()
        serving = await self._find(Kind.CAPTIONER, model)
        if serving is None:
            known = ", ".join(info.name for info in self.caption_models())
            raise PreconditionFailed(
                Reason.MODEL_NOT_SERVED,
                f"no captioner here runs the model {model!r}; served are: {known}",
                metadata={"model": model, "served": known},
            )
        return serving

    async def _find(self, kind: Kind, name: str) -> ModelTargets | None:
        """Find who serves a space or model, after asking all replicas again where nobody is known to."""
        if (serving := self._known(kind, name)) is not None:
            return serving
        await self._ask_again(kind)
        if (serving := self._known(kind, name)) is not None:
            return serving
        if self._strangers(kind) or not self._monitor.targets(kind):
            raise unavailable(kind, self._monitor.targets(kind))
        return None

    def _known(self, kind: Kind, name: str) -> ModelTargets | None:
        """Tell who serves a space or model by what replicas have told; the same until one of them tells again."""
        told = [self._monitor.told(kind, target) for target in self._monitor.targets(kind)]
        last = self._found.get((kind, name))
        if last is not None and all(map(operator.is_, last[0], told)):
            return last[1]
        suiting: dict[str, list[Info]] = {}
        for target, told_there in zip(self._monitor.targets(kind), told, strict=True):
            if infos := [info for info in told_there if name in _names(info)]:
                suiting[target] = infos
        if not suiting:
            self._found.pop((kind, name), None)
            return None
        limits = self._call_limits([info for infos in suiting.values() for info in infos])
        self._found[kind, name] = told, ModelTargets(tuple(suiting), limits)
        return self._found[kind, name][1]

    async def _ask_again(self, kind: Kind) -> None:
        if self._monitor.targets(kind):
            await self._monitor.refresh(FRESH_S)

    async def _default_asked_again(self, kind: Kind) -> str:
        await self._ask_again(kind)
        return self._default(kind)

    def _default(self, kind: Kind) -> str:
        """Return what the settings name, or else the first target's first; "" while that has not told.

        It stays while any replica of that target serves it: which of several answers first decides nothing, and a
        rolling update to another model moves it once.
        """
        if kind is Kind.ENCODER and self._chosen_space:
            return self._chosen_space
        targets = self._monitor.targets(kind)
        named = [name for info in (self._monitor.told(kind, targets[0]) if targets else ()) for name in _names(info)]
        if named and self._defaults.get(kind) not in named:
            if kind in self._defaults:
                log.warning("default moved", kind=kind.noun, was=self._defaults[kind], now=named[0])
            self._defaults[kind] = named[0]
        return self._defaults.get(kind, "")

    def _undecided(self, kind: Kind, what: str, instead: str) -> LensmeshError:
        """Say that the first target is waited for."""
        targets = self._monitor.targets(kind)
        if not targets:
            return unavailable(kind, targets)
        first = targets[0]
        reason = next((replica.reason for replica in self._monitor.replicas(kind, first) if replica.reason), "")
        return Unavailable(
            kind.unavailable,
            f"the default {what} is that of the {kind.noun} at {first}, which has not told it yet"
            f"{f' ({reason})' if reason else ''}: send again later, or see that {instead}",
            metadata={"service": kind.service, "targets": first},
        )

    def _strangers(self, kind: Kind) -> list[str]:
        """List the targets of which nobody has ever told what it serves."""
        return [target for target in self._monitor.targets(kind) if not self._monitor.told(kind, target)]

    def _infos(self, kind: Kind) -> list[Info]:
        return [info for target in self._monitor.targets(kind) for info in self._monitor.told(kind, target)]

    def _call_limits(self, infos: Sequence[Info]) -> CallLimits:
        told = [info.limits for info in infos]
        return CallLimits(
            min([self._own_limits.max_items, *(limits.max_items for limits in told if limits.max_items)]),
            min(
                [self._own_limits.max_bytes, *(limits.max_message_bytes for limits in told if limits.max_message_bytes)]
            ),
        )


def _without_policy(space: common_pb2.VectorSpace) -> tuple[object, ...]:
    """Return what spaces of one model have in common, whatever their transparency policies."""
    return space.model, space.weights_digest, space.dimension, space.normalized


def _served(infos: Sequence[Info]) -> list[encoder_pb2.ServedModel]:
    return [served for info in infos for served in info.served]


def _names(info: Info) -> list[str]:
    """List VectorSpace.ids of an encoder or ModelInfo.names of a captioner, its default first."""
    return [space.id for served in info.served for space in served.spaces] or [model.name for model in info.models]
