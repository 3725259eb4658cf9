"""A replica as the router sees it, asked over a connection of its own that no health check closes."""

import asyncio
from dataclasses import dataclass
from enum import Enum, auto

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lensmesh.caption.v1 import caption_pb2, caption_pb2_grpc
from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from lensmesh.search.v1 import search_pb2, search_pb2_grpc
from lensmesh_chassis.channels import ChannelSecurity, open_channel
from lensmesh_chassis.tls.handshakes import explain_handshake, explain_hang_up
from router_svc.upstreams.discovery import TargetAddress
from router_svc.upstreams.kinds import Kind


class Condition(Enum):
    """State of a replica."""

    SERVING = auto()
    NOT_SERVING = auto()
    UNREACHABLE = auto()


@dataclass(frozen=True, slots=True)
class Info:
    """Answer of a replica to GetInfo, whatever its kind."""

    server: common_pb2.ServerInfo
    limits: common_pb2.Limits
    served: tuple[encoder_pb2.ServedModel, ...] = ()
    """An encoder's models with their spaces."""
    local_feature_kind: common_pb2.LocalFeatureKind.ValueType = common_pb2.LOCAL_FEATURE_KIND_UNSPECIFIED
    """Local features that an encoder makes."""
    models: tuple[common_pb2.ModelInfo, ...] = ()
    """A captioner's models."""
    store: str = ""
    """A search service's store."""


@dataclass(frozen=True, slots=True)
class Replica:
    """A replica at one moment."""

    kind: Kind
    address: TargetAddress
    condition: Condition
    reason: str = ""
    info: Info | None = None
    """Answer that it gave last; None if it never did."""


class Probe:
    """Asks one address for its health and what it serves."""

    def __init__(self, kind: Kind, address: TargetAddress, security: ChannelSecurity | None, timeout_s: float) -> None:
        self._kind = kind
        self._address = address
        self._security = security
        self._timeout_s = timeout_s
        self._channel: grpc.aio.Channel | None = None
        self._info: Info | None = None

    async def ask(self) -> Replica:
        """Tell how the replica is now. Never raises, and ends within the probe's time."""
        if self._address.failure:
            return self._answer(Condition.UNREACHABLE, self._address.failure)
        if self._channel is None:
            self._channel = open_channel(
                self._address.address, security=self._security, instrument=False, authority=self._address.host
            )
        health, info = await asyncio.gather(
            self._health(self._channel), self._get_info(self._channel), return_exceptions=True
        )
        if isinstance(info, Info):
            self._info = info
        elif not isinstance(info, grpc.RpcError):
            raise info
        if isinstance(health, grpc.RpcError):
            if health.code() is not grpc.StatusCode.UNIMPLEMENTED:
                # A new connection next time: this one may wait long before it tries again.
                await self.close()
                return self._answer(Condition.UNREACHABLE, self._why(health))
            serving = isinstance(info, Info)
        elif isinstance(health, BaseException):
            raise health
        else:
            serving = health == health_pb2.HealthCheckResponse.SERVING
        if serving:
            # A part of its work may fail: a database that takes no writes.
            return self._answer(Condition.SERVING, info.server.not_serving_reason if isinstance(info, Info) else "")
        told = info.server.not_serving_reason if isinstance(info, Info) else (info.details() or "")
        return self._answer(Condition.NOT_SERVING, told or "its health says so and gives no reason")

    async def close(self) -> None:
        """End the connection."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    def _answer(self, condition: Condition, reason: str = "") -> Replica:
        return Replica(self._kind, self._address, condition, reason, self._info)

    def _why(self, error: grpc.RpcError) -> str:
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return f"no answer within {self._timeout_s:g} s"
        details = error.details() or error.code().name
        if why := explain_handshake(details, self._security):
            return why
        hint = explain_hang_up(details, self._security)
        return f"{details}. {hint}" if hint else details

    async def _health(self, channel: grpc.aio.Channel) -> int:
        request = health_pb2.HealthCheckRequest(service=self._kind.service)
        answer = await health_pb2_grpc.HealthStub(channel).Check(request, timeout=self._timeout_s)
        status: int = answer.status
        return status

    async def _get_info(self, channel: grpc.aio.Channel) -> Info:
        match self._kind:
            case Kind.ENCODER:
                encoder = await encoder_pb2_grpc.EncoderServiceStub(channel).GetInfo(
                    encoder_pb2.GetInfoRequest(), timeout=self._timeout_s
                )
                return Info(
                    encoder.server,
                    encoder.limits,
                    served=tuple(encoder.models),
                    local_feature_kind=encoder.local_feature_kind,
                )
            case Kind.CAPTIONER:
                captioner = await caption_pb2_grpc.CaptionerServiceStub(channel).GetInfo(
                    caption_pb2.GetInfoRequest(), timeout=self._timeout_s
                )
                return Info(captioner.server, captioner.limits, models=tuple(captioner.models))
            case Kind.SEARCH:
                search = await search_pb2_grpc.SearchServiceStub(channel).GetInfo(
                    search_pb2.GetInfoRequest(), timeout=self._timeout_s
                )
                return Info(search.server, search.limits, store=search.store)
