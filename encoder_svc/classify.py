"""ClassifyImages: the request checked, the labels and images encoded, and the answer written."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from encoder_svc.label_vectors import LabelMatrix
from encoder_svc.model import Embedded, LogitScale, Scoring, Vector
from encoder_svc.options import NUMBERS, EncodeCall, read_options
from encoder_svc.settings import EncoderSettings
from encoder_svc.zero_shot import Places, score
from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh_chassis.errors import DeadlineExceeded, InvalidInput, PreconditionFailed
from lensmesh_chassis.labels import LabelSet, check_answer_size, check_choice, field_of_items, read_labels
from lensmesh_chassis.limits import check_items
from lensmesh_chassis.messages.packing import Slices
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import to_status
from lensmesh_chassis.telemetry import spans
from lensmesh_inference.items import Completed, Failed, ItemOutcome, Timing
from lensmesh_serving.timings import write_timings

# Multiplications that take about a millisecond: more are done beside the event loop.
_AT_ONCE: Final = 10_000_000
# Of a vector that the caller brought.
_NO_TIME: Final = Timing(0, 0, 0, 0, 0)


@dataclass(frozen=True)
class ClassifyCall:
    """A request, checked: the labels, how many of them come back, and the options of its images."""

    encode: EncodeCall
    labels: LabelSet
    scale: LogitScale
    top: int

    async def label_vectors(self) -> LabelMatrix:
        """Return the labels' vectors. Raises ``DeadlineExceeded`` where they take longer than the caller waits."""
        with spans.span("labels", {**self.encode.attributes, spans.BATCH_SIZE: len(self.labels.labels)}):
            try:
                async with asyncio.timeout_at(self.encode.deadline):
                    return await self.encode.served.labels.of(self.labels, self.encode.lane)
            except TimeoutError as error:
                raise DeadlineExceeded(
                    Reason.DEADLINE_EXCEEDED,
                    f"The deadline passed while {len(self.labels.labels)} labels were encoded. Those that are done are "
                    "kept: send the call again with more time.",
                ) from error


def read_classification(
    request: encoder_pb2.ClassifyImagesRequest, models: Any, settings: EncoderSettings, context: Any
) -> ClassifyCall:
    """Check a request before any work is done on it.

    Raises ``InvalidInput`` naming the field, and ``PreconditionFailed`` for a space that is not served or whose model
    cannot classify.
    """
    field = field_of_items(request.images, request.embeddings)
    items = getattr(request, field)
    check_items(len(items), settings.max_items, field)
    options = encoder_pb2.EncodeOptions(space_id=request.space_id, priority=request.priority)
    encode = read_options(options, models, settings, context, streamed=False, path="")
    scale = _scale_of(encode)
    labels = read_labels(request.labels, request.templates, request.template, max_text_chars=settings.max_text_chars)
    check_choice(len(labels.labels), softmax=scale.scoring is Scoring.SOFTMAX)
    check_answer_size(labels.labels, len(items), request.top, settings.max_message_bytes)
    return ClassifyCall(encode, labels, scale, request.top)


def read_embedding(embedding: common_pb2.Embedding, call: EncodeCall, field: str) -> Completed[Embedded]:
    """Return a vector of an image as if it had been encoded. Raises ``InvalidInput`` for one that is none.

    A vector of another space is a ``PreconditionFailed``.
    """
    if embedding.space_id != call.space.id:
        raise PreconditionFailed(
            Reason.SPACE_MISMATCH,
            f"{field} is of the space {embedding.space_id or '(none)'}, and {call.space.id} ({call.space.model}) is "
            "asked for: set space_id to the space of the vectors",
            field=f"{field}.space_id",
            metadata={"space_id": embedding.space_id, "expected_space": call.space.id},
        )
    numbers = _numbers(embedding, field)
    if len(numbers) != call.space.dimension:
        raise InvalidInput(
            Reason.VECTOR_DIMENSION_MISMATCH,
            f"{field} has {len(numbers)} numbers, and its space has {call.space.dimension}",
            field=field,
            metadata={"dimension": len(numbers), "expected_dimension": call.space.dimension},
        )
    return Completed(Embedded(numbers), _NO_TIME)


async def write_classifications(
    call: ClassifyCall, outcomes: Sequence[ItemOutcome[Embedded] | Exception], labels: LabelMatrix
) -> encoder_pb2.ClassifyImagesResponse:
    """Score what was encoded, and write the answer: a result for each outcome, in order."""
    response = encoder_pb2.ClassifyImagesResponse()
    good = {index: outcome for index, outcome in enumerate(outcomes) if isinstance(outcome, Completed)}
    rows = dict(zip(good, range(len(good)), strict=True))
    if good:
        images = np.stack([outcome.value.vector for outcome in good.values()])
        scores = await _score(images, labels.vectors, call)
    slices = Slices()
    for index, outcome in enumerate(outcomes):
        result = response.results.add()
        if isinstance(outcome, Completed):
            row = rows[index]
            best = None if scores.best is None else scores.best[row]
            _write_scores(result.scores, call.labels, scores.probabilities[row], best)
            result.timings.CopyFrom(write_timings(outcome.timing))
            result.truncated_label_count = labels.truncated
        else:
            result.error.CopyFrom(to_status(outcome.error if isinstance(outcome, Failed) else outcome))
        if slices.over:
            await slices.rest()
    return response


async def _score(images: Vector, labels: Vector, call: ClassifyCall) -> Any:
    if len(images) * labels.size <= _AT_ONCE:
        return score(images, labels, call.scale, call.top)
    return await asyncio.to_thread(score, images, labels, call.scale, call.top)


def _write_scores(scores: encoder_pb2.LabelScores, labels: LabelSet, row: Vector, best: Places | None) -> None:
    scores.SetInParent()
    if best is None:
        scores.probabilities.extend(row.tolist())
        return
    for place in best.tolist():
        scores.best.add(index=place, label=labels.labels[place], probability=float(row[place]))


def _scale_of(call: EncodeCall) -> LogitScale:
    facts = call.served.model.facts
    if facts.logit_scale is None or set(call.space.modalities) != {"image", "text"}:
        raise PreconditionFailed(
            Reason.CLASSIFY_UNSUPPORTED,
            f"{facts.name} cannot tell how well a label fits: it has no logit scale, or does not read texts. Use the "
            "space of a CLIP or SigLIP model.",
            field="space_id",
            metadata={"model": facts.name, "space_id": call.space.id},
        )
    return facts.logit_scale


def _numbers(embedding: common_pb2.Embedding, field: str) -> Vector:
    """Return the numbers as sent, float32. Raises VECTOR_INVALID with what is wrong."""
    wrong, numbers = "", np.empty(0, np.float32)
    kind = NUMBERS.get(embedding.data_type)
    if bool(embedding.data) == bool(embedding.floats):
        wrong = "set exactly one of data and floats"
    elif embedding.floats:
        numbers = np.array(embedding.floats, np.float32)
    elif kind is None:
        wrong = "data_type says neither FLOAT32 nor FLOAT16: set it to what data holds"
    elif len(embedding.data) % kind.itemsize:
        wrong = f"data has {len(embedding.data)} bytes, which are no whole numbers of {kind.itemsize} bytes"
    else:
        # A signalling NaN is reported below, not by a warning.
        with np.errstate(invalid="ignore"):
            numbers = np.frombuffer(embedding.data, kind).astype(np.float32)
    if not wrong and embedding.dimension not in (0, len(numbers)):
        wrong = f"it has {len(numbers)} numbers, and dimension says {embedding.dimension}"
    if not wrong and not np.isfinite(numbers).all():
        wrong = "a number is NaN or infinite"
    if not wrong and not numbers.any():
        wrong = "it is all zeros, which have no direction"
    if wrong:
        raise InvalidInput(Reason.VECTOR_INVALID, f"{field} is no vector: {wrong}", field=field)
    return numbers
