"""What fakes have in common: two vector spaces, and faults as attributes."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np

from lensmesh.common.v1 import common_pb2
from lensmesh_chassis.errors import LensmeshError

DIMENSION = 8
SPACE = common_pb2.VectorSpace(
    id="vs1-" + "a" * 32,
    model="fake",
    dimension=DIMENSION,
    normalized=True,
    modalities=[common_pb2.MODALITY_IMAGE, common_pb2.MODALITY_TEXT],
)
OTHER_SPACE = common_pb2.VectorSpace(
    id="vs1-" + "b" * 32,
    model="other",
    dimension=DIMENSION,
    normalized=True,
    modalities=[common_pb2.MODALITY_IMAGE, common_pb2.MODALITY_TEXT],
)


def vector(content: bytes, space: common_pb2.VectorSpace) -> common_pb2.Embedding:
    """The vector of a content in a space; a text and an image of the same bytes have the same."""
    raw = hashlib.sha256(space.id.encode() + content).digest()[:DIMENSION]
    numbers = np.frombuffer(raw, np.uint8).astype("<f4") - 128
    numbers /= np.linalg.norm(numbers)
    return common_pb2.Embedding(
        space_id=space.id, data_type=common_pb2.DATA_TYPE_FLOAT32, dimension=DIMENSION, data=numbers.tobytes()
    )


@dataclass
class Faults:
    """What goes wrong, and what was seen."""

    fail_next: list[LensmeshError] = field(default_factory=list)
    """Raised by the next calls, one each."""
    fail_always: LensmeshError | None = None
    delay_s: float = 0.0
    gate: asyncio.Event | None = None
    """Calls wait for it."""
    calls: list[int] = field(default_factory=list)
    """Items of each call that arrived."""
    in_flight: int = 0

    @asynccontextmanager
    async def call(self, items: int) -> AsyncIterator[None]:
        """Stands around each call of the model."""
        self.calls.append(items)
        self.in_flight += 1
        try:
            if self.fail_always is not None:
                raise self.fail_always
            if self.fail_next:
                raise self.fail_next.pop(0)
            if self.gate is not None:
                await self.gate.wait()
            await asyncio.sleep(self.delay_s)
            yield
        finally:
            self.in_flight -= 1
