"""Labels that are written into the metadata of the items that they fit: TagOptions, checked, and what is written."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from google.protobuf import struct_pb2

from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh_chassis.errors import InvalidInput, PreconditionFailed
from lensmesh_chassis.labels import LabelSet, check_choice, read_labels
from lensmesh_chassis.reasons import Reason
from router_svc.model_directory import ModelDirectory

PATH: Final = "options.tags"
DEFAULT_FIELD: Final = "tags"
DEFAULT_MIN_PROBABILITY: Final = 0.1
DEFAULT_TAGS: Final = 10
MOST_TAGS: Final = 100
# An encoder may allow fewer; then it refuses.
MAX_LABEL_CHARS: Final = 10_000
_FIELD: Final = re.compile(r"[\w-]{1,64}")
_DIGEST_DIGITS: Final = 16


@dataclass(frozen=True, slots=True)
class TagSetting:
    """Options of a call or a stream for the tags of all its items."""

    labels: LabelSet
    field: str
    """Of the list of tags; the names of the other two fields begin with it."""
    min_probability: float
    most: int
    space: str
    """NamedSpace.name of the vectors that labels are compared with."""
    space_id: str
    digest: bytes
    """Of all that decides which tags an image gets."""
    places: Mapping[str, int]
    """Of each label among all."""
    priority: common_pb2.Priority.ValueType

    @property
    def fields(self) -> tuple[str, str, str]:
        """The names of what is written: the list, the probabilities, and the digest of what they were made of."""
        return self.field, f"{self.field}_probability", f"{self.field}_digest"

    def stored(self, metadata: Mapping[str, object], content_digest: bytes) -> Mapping[str, object]:
        """Return those of stored fields that are this setting's tags of this very image; none where they are not."""
        told = metadata.get(self.fields[2])
        if not isinstance(told, struct_pb2.Value) or told.string_value != self._made_of(content_digest):
            return {}
        return {name: metadata[name] for name in self.fields if name in metadata}

    def check_carried(self, metadata: Mapping[str, object], path: str) -> None:
        """Refuse an item that carries what is written here. Raises InvalidInput with reason METADATA_INVALID."""
        for name in self.fields:
            if name in metadata:
                raise InvalidInput(
                    Reason.METADATA_INVALID,
                    f"{path}.{name} is written by {PATH}: leave it out, or set {PATH}.field to another name",
                    field=f"{path}.{name}",
                    metadata={"field": name},
                )

    def check_stored(self, metadata: Mapping[str, object], item_id: str) -> None:
        """Refuse to write over stored values that no setting of tags made. Raises as `check_carried`."""
        if self.field in metadata and self.fields[2] not in metadata:
            raise InvalidInput(
                Reason.METADATA_INVALID,
                f"the item {item_id} is stored with a {self.field!r} of its own in its metadata, and {PATH} would "
                f"write over it: set {PATH}.field to another name",
                field=f"{PATH}.field",
                metadata={"field": self.field, "id": item_id},
            )

    def request(self) -> encoder_pb2.ClassifyImagesRequest:
        """Return what is asked of an encoder for each vector."""
        return encoder_pb2.ClassifyImagesRequest(
            labels=self.labels.labels,
            templates=self.labels.templates,
            top=self.most,
            space_id=self.space_id,
            priority=self.priority,
        )

    def written(self, scores: encoder_pb2.LabelScores, content_digest: bytes) -> dict[str, struct_pb2.Value]:
        """Return the fields of metadata for the best labels of an image."""
        # Six digits: what a float32 holds, without what a double makes of the rest.
        best = {
            score.label: float(f"{score.probability:.6g}")
            for score in scores.best
            if score.probability >= self.min_probability
        }
        names = struct_pb2.ListValue(values=[struct_pb2.Value(string_value=label) for label in best])
        shares = struct_pb2.Struct(
            fields={label: struct_pb2.Value(number_value=probability) for label, probability in best.items()}
        )
        values = (
            struct_pb2.Value(list_value=names),
            struct_pb2.Value(struct_value=shares),
            struct_pb2.Value(string_value=self._made_of(content_digest)),
        )
        return dict(zip(self.fields, values, strict=True))

    def told(self, metadata: Mapping[str, struct_pb2.Value]) -> list[encoder_pb2.LabelScore]:
        """Return the tags that fields of metadata hold, best first."""
        tags, probabilities, _ = self.fields
        shares = metadata[probabilities].struct_value.fields if probabilities in metadata else {}
        names = metadata[tags].list_value.values if tags in metadata else ()
        return [
            encoder_pb2.LabelScore(
                index=self.places.get(name.string_value, 0),
                label=name.string_value,
                probability=shares[name.string_value].number_value if name.string_value in shares else 0,
            )
            for name in names
        ]

    def _made_of(self, content_digest: bytes) -> str:
        return hashlib.sha256(self.digest + content_digest).hexdigest()[:_DIGEST_DIGITS]


def check_tags(tags: router_pb2.TagOptions) -> None:
    """Refuse what no service is needed to refuse. Raises InvalidInput naming the field."""
    read_labels(tags.labels, tags.templates, max_text_chars=MAX_LABEL_CHARS, path=PATH)
    if tags.field and not _FIELD.fullmatch(tags.field):
        raise _option_invalid("field", f"is {tags.field!r:.80}: use 1 to 64 letters, digits, _ and -")
    if tags.HasField("min_probability") and not 0 <= tags.min_probability <= 1:
        raise _option_invalid("min_probability", f"is {tags.min_probability:g}: use 0 to 1")
    if tags.max_tags > MOST_TAGS:
        raise _option_invalid("max_tags", f"is {tags.max_tags} and the limit is {MOST_TAGS}")


def settle_tags(
    tags: router_pb2.TagOptions,
    names: Sequence[str],
    space_ids: Mapping[str, str],
    priority: common_pb2.Priority.ValueType,
    directory: ModelDirectory,
) -> TagSetting:
    """Return checked options as they apply to a collection. `names` are the spaces that are filled, the first first.

    Raises InvalidInput with reason SPACE_UNKNOWN for a space that is not filled, PreconditionFailed with reason
    CLASSIFY_UNSUPPORTED for one whose model cannot classify, and InvalidInput for one label with a softmax.
    """
    space = tags.space or names[0]
    if space not in names:
        raise InvalidInput(
            Reason.SPACE_UNKNOWN,
            f"{PATH}.space is {space!r}, and filled are: {', '.join(names)}",
            field=f"{PATH}.space",
            metadata={"space": space},
        )
    scoring = directory.label_scoring(space_ids[space])
    if scoring == encoder_pb2.LABEL_SCORING_UNSPECIFIED:
        raise PreconditionFailed(
            Reason.CLASSIFY_UNSUPPORTED,
            f"the model of the space {space!r} cannot tell how well a label fits: leave {PATH} out, or name a space of "
            "a CLIP or SigLIP model",
            field=f"{PATH}.space",
            metadata={"space": space, "space_id": space_ids[space]},
        )
    labels = read_labels(tags.labels, tags.templates, max_text_chars=MAX_LABEL_CHARS, path=PATH)
    softmax = scoring == encoder_pb2.LABEL_SCORING_SOFTMAX
    check_choice(len(labels.labels), softmax=softmax, field=f"{PATH}.labels")
    least = tags.min_probability if tags.HasField("min_probability") else DEFAULT_MIN_PROBABILITY
    most = tags.max_tags or DEFAULT_TAGS
    made_of = json.dumps([space_ids[space], labels.labels, labels.templates, f"{least:.6g}", most])
    return TagSetting(
        labels,
        tags.field or DEFAULT_FIELD,
        least,
        most,
        space,
        space_ids[space],
        hashlib.sha256(made_of.encode()).digest(),
        {label: index for index, label in enumerate(labels.labels)},
        priority,
    )


def _option_invalid(name: str, what: str) -> InvalidInput:
    return InvalidInput(Reason.OPTION_INVALID, f"{PATH}.{name} {what}", field=f"{PATH}.{name}")
