"""EncodeOptions, checked: what a call or a stream asks of the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from encoder_svc.engine import Input, ServedEncoder, TextInput
from encoder_svc.model import Embedded, EncoderInput, Space
from encoder_svc.settings import EncoderSettings
from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh_chassis.encode_answers import answer_bytes
from lensmesh_chassis.errors import InvalidInput, PreconditionFailed
from lensmesh_chassis.images.inputs import check_transparency
from lensmesh_chassis.limits import check_no_nul
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.telemetry import spans
from lensmesh_chassis.thumbnails import check_thumbnail_px
from lensmesh_inference.images import local_features
from lensmesh_inference.images.transparency import Transparency
from lensmesh_inference.items import EngineItem
from lensmesh_inference.registry import ModelRegistry
from lensmesh_serving.call import ModelCall, deadline_of, lane_of

POLICIES: Final = {
    common_pb2.TRANSPARENCY_POLICY_DROP: Transparency.DROP,
    common_pb2.TRANSPARENCY_POLICY_WHITE: Transparency.WHITE,
}
# The contract names little-endian, whatever this machine is.
NUMBERS: Final[Mapping[common_pb2.DataType.ValueType, np.dtype[Any]]] = {
    common_pb2.DATA_TYPE_FLOAT32: np.dtype("<f4"),
    common_pb2.DATA_TYPE_FLOAT16: np.dtype("<f2"),
}


@dataclass(frozen=True, kw_only=True)
class EncodeCall(ModelCall[ServedEncoder]):
    """The checked options of one call or stream: the space, the type of the numbers, and whether they are readable.

    `hashed`: images get their perceptual hash too; `featured`: their local features; `thumbnail_px`: a thumbnail with
    such a longer side, or none for 0.
    """

    space: Space
    data_type: common_pb2.DataType.ValueType
    readable: bool
    hashed: bool
    featured: bool
    thumbnail_px: int
    max_text_chars: int

    @property
    def attributes(self) -> Mapping[str, str]:
        return {**super().attributes, spans.SPACE_ID: self.space.id}

    @property
    def answer_bytes(self) -> int:
        """The most bytes of the answer to one image; 0 where its size needs no care."""
        return answer_bytes(featured=self.featured, thumbnail_px=self.thumbnail_px)

    def item(self, source: Input) -> EngineItem[EncoderInput, Embedded]:
        """Return the engine's item for one image or text.

        Raises ``InvalidInput`` for a text that is empty, too long, or has a NUL character.
        """
        if isinstance(source, TextInput):
            _check_text(source, self.max_text_chars)
        half = self.data_type == common_pb2.DATA_TYPE_FLOAT16
        return self.served.item(
            source,
            self.space,
            half=half,
            hashed=self.hashed,
            featured=self.featured,
            thumbnail_px=self.thumbnail_px,
        )


def read_options(
    options: encoder_pb2.EncodeOptions,
    models: ModelRegistry[ServedEncoder],
    settings: EncoderSettings,
    context: Any,
    *,
    streamed: bool,
    path: str = "options.",
) -> EncodeCall:
    """Check the options and find the model. Bad options fail the whole call, before anything is decoded.

    `path` is what the caller's names of these fields begin with. Raises ``InvalidInput`` naming the field, and
    ``PreconditionFailed`` for a space that is not served, and for local features where OpenCV is not installed.
    """
    if options.local_features and not local_features.supported():
        raise local_features.unsupported("OpenCV is not installed")
    data_type = _read_data_type(options.data_type)
    lane = lane_of(options.priority, streamed=streamed, field=f"{path}priority")
    check_transparency(options.transparency)
    check_thumbnail_px(options.thumbnail_px, f"{path}thumbnail_px")
    served, space = find_space(models, options.space_id, POLICIES.get(options.transparency), field=f"{path}space_id")
    return EncodeCall(
        served=served,
        lane=lane,
        deadline=deadline_of(context),
        space=space,
        data_type=data_type,
        readable=options.readable,
        hashed=options.perceptual_hash,
        featured=options.local_features,
        thumbnail_px=options.thumbnail_px,
        max_text_chars=settings.max_text_chars,
    )


def find_space(
    models: ModelRegistry[ServedEncoder],
    space_id: str,
    transparency: Transparency | None = None,
    *,
    field: str = "options.space_id",
) -> tuple[ServedEncoder, Space]:
    """Return the model that answers in a space, and the space.

    An empty `space_id` means the first model's default space, or its first space of `transparency`. Raises
    SPACE_NOT_SERVED for a space that no model has, and OPTION_INVALID for a space of another policy.
    """
    if not space_id:
        first = models.default
        suiting = (space for space in first.model.facts.spaces if transparency in (None, space.transparency))
        return first, next(suiting)
    for served in models.served:
        for space in served.model.facts.spaces:
            if space.id == space_id:
                _check_policy(space, transparency)
                return served, space
    known = "; ".join(
        f"{space.id} ({space.model}, {'unit length' if space.normalized else 'raw'}, "
        f"{'on white' if space.transparency is Transparency.WHITE else 'alpha dropped'})"
        for served in models.served
        for space in served.model.facts.spaces
    )
    raise PreconditionFailed(
        Reason.SPACE_NOT_SERVED,
        f"Space {space_id} is not served here. Served: {known}. Leave space_id empty for the first.",
        field=field,
        metadata={"space_id": space_id, "served": known},
    )


def _read_data_type(data_type: common_pb2.DataType.ValueType) -> common_pb2.DataType.ValueType:
    if data_type == common_pb2.DATA_TYPE_UNSPECIFIED:
        return common_pb2.DATA_TYPE_FLOAT32
    if data_type not in NUMBERS:
        raise InvalidInput(
            Reason.OPTION_INVALID,
            f"options.data_type is {data_type}: use DATA_TYPE_FLOAT32, DATA_TYPE_FLOAT16 or leave it out.",
            field="options.data_type",
            metadata={"value": data_type},
        )
    return data_type


def _check_policy(space: Space, transparency: Transparency | None) -> None:
    if transparency not in (None, space.transparency):
        raise InvalidInput(
            Reason.OPTION_INVALID,
            f"options.transparency is {transparency}, and the space {space.id} has {space.transparency}: leave one of "
            "the two out.",
            field="options.transparency",
            metadata={"space_id": space.id, "space_transparency": space.transparency},
        )


def _check_text(source: TextInput, limit: int) -> None:
    if not source.text.strip():
        raise InvalidInput(Reason.TEXT_EMPTY, f"{source.field} is empty: send at least one word.", field=source.field)
    if len(source.text) > limit:
        raise InvalidInput(
            Reason.TEXT_TOO_LONG,
            f"{source.field} has {len(source.text)} characters, the limit is {limit}: shorten it.",
            field=source.field,
            metadata={"chars": len(source.text), "max_text_chars": limit},
        )
    check_no_nul(source.text, source.field)
