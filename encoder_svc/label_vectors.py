"""Vectors of labels: several texts each, averaged, kept in the cache. This module imports neither gRPC nor protobuf.

As in CLIP's zero-shot protocol (Radford et al. 2021): each text's vector is brought to unit length, a label's is the
mean of its texts' vectors, and is brought to unit length again.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np

from encoder_svc.cached import VectorCodec
from encoder_svc.model import Embedded, EncoderInput, Vector
from lensmesh_chassis.labels import LabelSet
from lensmesh_inference.batching.batcher import Lane
from lensmesh_inference.cache.tiered import TieredCache
from lensmesh_inference.engine import ModelEngine
from lensmesh_inference.items import EngineItem, Failed, ItemOutcome

# Texts that go to the engine together, and the most that go in a lane where somebody waits: more are bulk work.
TEXTS_AT_ONCE: Final = 256
# Shorter lists are read and written at once; longer ones beside the event loop.
_FEW_LABELS: Final = 500
_COUNT_BYTES: Final = 4
_NUMBERS: Final = np.dtype("<f4")

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class LabelMatrix:
    """The unit vectors of some labels, float32 of shape (labels, d), and how many of the labels were cut."""

    vectors: Vector
    truncated: int

    def dump(self) -> bytes:
        """Return it as bytes for the cache: the count, then the numbers row by row, little-endian."""
        return self.truncated.to_bytes(_COUNT_BYTES, "little") + self.vectors.astype(_NUMBERS, copy=False).tobytes()

    @classmethod
    def load(cls, payload: bytes, shape: tuple[int, int]) -> LabelMatrix | None:
        """Return what `dump` made bytes of; None for bytes that are no matrix of this shape."""
        if len(payload) != _COUNT_BYTES + shape[0] * shape[1] * _NUMBERS.itemsize:
            return None
        vectors = np.frombuffer(payload, _NUMBERS, offset=_COUNT_BYTES).reshape(shape)
        return cls(vectors.astype(np.float32, copy=False), int.from_bytes(payload[:_COUNT_BYTES], "little"))


@dataclass(eq=False)
class _Flight:
    """A computation of a list of labels, and how many calls wait for it."""

    task: asyncio.Task[LabelMatrix]
    waiting: int = 0


class LabelVectors:
    """The vectors of labels by one model.

    Each label's is kept in the cache under its label and templates, so that other lists and other replicas share it. A
    whole list is kept in this process too, in one piece: a call with thousands of labels then takes milliseconds. Calls
    for the same list at the same time wait for one computation, which ends with the last of them.
    """

    def __init__(
        self,
        engine: ModelEngine[EncoderInput, Vector, Embedded],
        cache: TieredCache,
        item: Callable[[str], EngineItem[EncoderInput, Embedded]],
        *,
        scope: str,
        dimension: int,
    ) -> None:
        """Take the engine that encodes. `item` makes its item of a text, which asks for the unit vector.

        `scope` names the model's space in the cache.
        """
        self._engine = engine
        self._cache = cache
        self._item = item
        self._scope = scope
        self._dimension = dimension
        self._codec = VectorCodec(dimension)
        self._flights: dict[tuple[str, Lane], _Flight] = {}

    async def of(self, labels: LabelSet, lane: Lane) -> LabelMatrix:
        """Return the vectors of labels, a row each in their order. Raises what the model raises for a text."""
        listed = json.dumps([labels.templates, labels.labels]).encode()
        key = self._cache.key(f"{self._scope}:label-list", hashlib.sha256(listed).hexdigest())
        known = await _aside(len(labels.labels), self._load, key, len(labels.labels))
        return known or await self._shared(key, labels, lane)

    async def _shared(self, key: str, labels: LabelSet, lane: Lane) -> LabelMatrix:
        """Wait for the computation of a list, and begin it where there is none."""
        flight = self._flights.get((key, lane))
        if flight is None:
            # Not within the first caller's trace: it works for all that wait, and a trace has no use for each text.
            task = asyncio.create_task(self._make(key, labels, lane), context=contextvars.Context())
            flight = self._flights[key, lane] = _Flight(task)
            task.add_done_callback(functools.partial(self._landed, (key, lane), flight))
        flight.waiting += 1
        try:
            # Not by `shield`, which since Python 3.14 logs an error of what was left behind.
            await asyncio.wait((flight.task,))
            return flight.task.result()
        finally:
            flight.waiting -= 1
            if not flight.waiting:
                self._forget((key, lane), flight)
                flight.task.cancel()

    def _landed(self, key: tuple[str, Lane], flight: _Flight, task: asyncio.Task[LabelMatrix]) -> None:
        self._forget(key, flight)
        if not task.cancelled():
            # Looked at, or asyncio would log an error that all callers have left.
            task.exception()

    def _forget(self, key: tuple[str, Lane], flight: _Flight) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]

    async def _make(self, key: str, labels: LabelSet, lane: Lane) -> LabelMatrix:
        rows = np.empty((len(labels.labels), self._dimension), np.float32)
        cut = np.zeros(len(labels.labels), np.bool_)
        keys = await _aside(len(labels.labels), self._keys, labels)
        missing = await self._look_up(keys, rows, cut)
        each, sound = len(labels.templates), self._cache.enabled
        if len(missing) * each > TEXTS_AT_ONCE:
            lane = Lane.BULK
        for places in _runs(missing, max(1, TEXTS_AT_ONCE // each)):
            made = await self._encode([text for place in places for text in labels.texts_of(place)], lane)
            # Of a model that answered wrong meanwhile nothing is kept, and not the list either.
            sound = sound and self._engine.trusted
            for position, place in enumerate(places):
                texts = made[position * each : (position + 1) * each]
                rows[place] = unit_rows(np.mean([text.vector for text in texts], axis=0, keepdims=True))[0]
                cut[place] = any(text.truncated for text in texts)
                if sound:
                    self._cache.put(keys[place], self._codec.dump(Embedded(rows[place], bool(cut[place]))))
        matrix = LabelMatrix(rows, int(cut.sum()))
        if sound and self._engine.trusted:
            await _aside(len(keys), lambda: self._cache.put_here(key, matrix.dump()))
        return matrix

    async def _look_up(self, keys: Sequence[str], rows: Vector, cut: np.typing.NDArray[np.bool_]) -> list[int]:
        """Fill in the rows that the cache has. Return the places of the others."""
        if not self._cache.enabled:
            return list(range(len(keys)))
        missing: list[int] = []
        for places in _runs(range(len(keys)), TEXTS_AT_ONCE):
            payloads = await asyncio.gather(*(self._cache.get(keys[place]) for place in places))
            for place, payload in zip(places, payloads, strict=True):
                found = None if payload is None else self._codec.load(payload)
                if found is None:
                    missing.append(place)
                else:
                    rows[place], cut[place] = found.vector, found.truncated
        return missing

    async def _encode(self, texts: Sequence[str], lane: Lane) -> list[Embedded]:
        """Encode texts, as room for them comes. Raises the first failure."""
        made: dict[int, Embedded] = {}
        failures: list[Exception] = []

        def tell(index: int, outcome: ItemOutcome[Embedded]) -> None:
            if isinstance(outcome, Failed):
                failures.append(outcome.error)
            else:
                made[index] = outcome.value

        await self._engine.run_some([self._item(text) for text in texts], tell, lane=lane)
        if failures:
            raise failures[0]
        return [made[index] for index in range(len(texts))]

    def _load(self, key: str, count: int) -> LabelMatrix | None:
        payload = self._cache.get_here(key)
        return None if payload is None else LabelMatrix.load(payload, (count, self._dimension))

    def _keys(self, labels: LabelSet) -> list[str]:
        begun = hashlib.sha256(json.dumps(labels.templates).encode())
        keys = []
        for label in labels.labels:
            digest = begun.copy()
            digest.update(label.encode())
            keys.append(self._cache.key(f"{self._scope}:label", digest.hexdigest()))
        return keys


def unit_rows(rows: Vector) -> Vector:
    """Return rows of unit length, float32; a row of zeros stays what it is."""
    wide = rows.astype(np.float64)
    norms = np.linalg.norm(wide, axis=1, keepdims=True)
    unit: Vector = (wide / np.maximum(norms, np.finfo(np.float32).tiny)).astype(np.float32)
    return unit


def _runs(places: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    return (places[begin : begin + size] for begin in range(0, len(places), size))


async def _aside(count: int, function: Callable[..., T], *args: object) -> T:
    """Call a function, beside the event loop where it is about many labels."""
    return function(*args) if count <= _FEW_LABELS else await asyncio.to_thread(function, *args)
