"""The contract's message that describes a model of a service."""

from collections.abc import Iterable
from typing import Final, Protocol

from google.protobuf.duration_pb2 import Duration

from lensmesh.common.v1 import common_pb2

_KINDS: Final = {
    "local": common_pb2.MODEL_KIND_LOCAL,
    "demonstration": common_pb2.MODEL_KIND_DEMONSTRATION,
    "mock": common_pb2.MODEL_KIND_MOCK,
}


class Facts(Protocol):
    """Properties that do not change while a model is served; `kind` is one of local, demonstration and mock."""

    @property
    def name(self) -> str: ...

    @property
    def weights_digest(self) -> str: ...

    @property
    def kind(self) -> str: ...

    @property
    def backend(self) -> str: ...

    @property
    def precision(self) -> str: ...

    @property
    def requested_device(self) -> str: ...

    @property
    def parity_cosine(self) -> float | None: ...


class Device(Protocol):
    """One processor as it is now; sizes in bytes."""

    @property
    def id(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def threads(self) -> int: ...

    @property
    def memory_total(self) -> int: ...

    @property
    def memory_used(self) -> int: ...


def write_model_info(facts: Facts, devices: Iterable[Device], canary_age_s: float | None) -> common_pb2.ModelInfo:
    """Build the message; without a canary's age where no canary has passed yet."""
    info = common_pb2.ModelInfo(
        name=facts.name,
        weights_digest=facts.weights_digest,
        kind=_KINDS[facts.kind],
        devices=[_write_device(device) for device in devices],
        requested_device=facts.requested_device,
        backend=facts.backend,
        precision=facts.precision,
        parity_cosine=facts.parity_cosine,
    )
    if canary_age_s is not None:
        info.canary_age.CopyFrom(Duration(seconds=int(canary_age_s), nanos=int(canary_age_s % 1 * 1e9)))
    return info


def _write_device(device: Device) -> common_pb2.Device:
    return common_pb2.Device(
        id=device.id,
        name=device.name,
        threads=device.threads,
        memory_total_bytes=device.memory_total,
        memory_used_bytes=device.memory_used,
    )
