"""Types of what goes in and what comes out: small frozen classes, numpy arrays for vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

from lensmesh_chassis.errors import LensmeshError
from lensmesh_client.images import ImageLike
from lensmesh_client.local_features import LocalFeatures

if TYPE_CHECKING:  # imported where vectors are: whoever only ingests needs none of it
    import numpy as np
    from numpy.typing import DTypeLike, NDArray

Vectors: TypeAlias = "NDArray[np.float32]"


class Captions(StrEnum):
    """Policy for an ingested image's generated caption."""

    BEST_EFFORT = "best-effort"
    """Store without one if none can be had, and say so in `IngestResult.caption_error`."""
    REQUIRED = "required"
    """Refuse the item then."""
    NONE = "none"
    """Ask for none."""


class MetadataPolicy(StrEnum):
    """Effect of an ingest on the metadata of an item that is stored already."""

    MERGE = "merge"
    """Write the keys that the item carries; keep all others."""
    REPLACE = "replace"
    """Keep nothing but what the item carries."""


class Priority(StrEnum):
    """Order of waiting in a model's queue."""

    INTERACTIVE = "interactive"
    BULK = "bulk"


class Change(StrEnum):
    """A part of a stored item that a write changed."""

    CONTENT = "content"
    """Another image."""
    VECTORS = "vectors"
    CAPTION = "caption"
    METADATA = "metadata"
    IMAGE_URI = "image_uri"
    LOCAL_FEATURES = "local_features"


class Transparency(StrEnum):
    """Colours that a model sees where an image is transparent."""

    DROP = "drop"
    """The colours hidden under the alpha channel, as open_clip sees them."""
    WHITE = "white"
    """White, as a page shows it."""


class Outcome(StrEnum):
    """Result of storing an item."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    SKIPPED = "skipped"
    """Nothing is stored: an item that is there looks the same (`IngestResult.near_duplicate`)."""


class NearAction(StrEnum):
    """Treatment of an image that looks the same as one of another item."""

    STORE = "store"
    """Store it, and tell of the other in `IngestResult.near_duplicate`."""
    MARK = "mark"
    """Store it with the other's id in its metadata."""
    SKIP = "skip"
    """Store nothing."""


@dataclass(frozen=True, slots=True)
class NearDuplicates:
    """Treatment of near-duplicates by an ingest; the perceptual hashes of its images are kept."""

    action: NearAction | str = NearAction.STORE
    max_distance: int = 31
    """Most bits in which near-duplicates differ, 0 to 31."""
    field: str = ""
    """Metadata field that MARK writes the other's id into; empty means "near_duplicate_of"."""


@dataclass(frozen=True, slots=True)
class NearDuplicate:
    """Another item whose image looks the same."""

    id: str
    distance: int
    """Bits in which their hashes differ."""


@dataclass(frozen=True, slots=True)
class Caption:
    """A description of one image."""

    text: str
    confidence: float = 0.0
    """Mean probability of the generated tokens, 0 to 1; comparable within one model only."""
    token_count: int = 0
    truncated: bool = False
    """The text ends because the token limit was reached."""
    model: str = ""
    """Model that wrote it; empty for a caption that a caller gave."""


@dataclass(frozen=True, slots=True)
class Timings:
    """Times that one item took in one service, in microseconds."""

    queue_us: int = 0
    preprocess_us: int = 0
    """Decoding, orienting, resizing; tokenizing."""
    compute_us: int = 0
    """In the model, with the whole batch."""
    total_us: int = 0
    batch_size: int = 0
    """Items in that batch; 0 where no model ran."""


@dataclass(frozen=True, slots=True)
class Tags:
    """Labels that an ingest writes into the metadata of each image that they fit (zero-shot).

    With `field` "tags", `tags` is the list of the best labels, `tags_probability` has the probability of each, and
    `tags_digest` says what they were made of. They are made anew where that is another.
    """

    labels: Sequence[str]
    """Two to `Limits.max_labels`, none empty, no two alike; one is enough for a model with a sigmoid."""
    templates: Sequence[str] = ()
    """Sentences around a label, with "{}" in its place; none means "a photo of {}"."""
    field: str = "tags"
    """1 to 64 letters, digits, "_" and "-"."""
    min_probability: float = 0.1
    """Labels with a lower one are left out."""
    max_tags: int = 10
    """Labels of one image at most, up to 100."""
    space: str = ""
    """The name of the collection's space whose vectors are compared; empty means the first that is filled."""


@dataclass(frozen=True, slots=True)
class IngestItem:
    """An image to make findable."""

    image: ImageLike
    """Encoded bytes, a path, or a PIL image (sent as PNG)."""
    id: str = ""
    """Empty: the hexadecimal SHA-256 of the image's bytes, so that the same image is stored once."""
    ref: str = ""
    """Echoed in the answer, for the caller's own matching."""
    metadata: Mapping[str, object] | None = None
    """Kept with it: JSON values. Integers beyond 2**53 go as strings."""
    caption: str = ""
    """Used instead of a generated one."""
    image_uri: str = ""
    """Address of the image; kept, never fetched."""


@dataclass(frozen=True, slots=True)
class PerceptualHash:
    """Looks of an image in few bits: PDQ's hash (Facebook 2019), which depends on no model."""

    hash: str
    """64 hexadecimal digits, as other programs write PDQ."""
    quality: int
    """Measure of how much there is to see, 0 to 100. An image below 50 has no near-duplicates."""
    unframed: str = ""
    """The hash of what a frame of one colour surrounds; empty where there is none."""

    def distance(self, other: PerceptualHash) -> int:
        """Return how far two images are from one another, in bits: 0 to 256. Up to 31 they are near-duplicates."""
        return min(
            (int(one, 16) ^ int(its, 16)).bit_count()
            for one in (self.hash, self.unframed)
            for its in (other.hash, other.unframed)
            if one and its
        )


@dataclass(frozen=True, slots=True)
class IngestResult:
    """Outcome for one item: it is durable, or `error` says why not."""

    index: int
    """Position in the input, from 0."""
    ref: str = ""
    id: str = ""
    outcome: Outcome | None = None
    caption: Caption | None = None
    caption_error: LensmeshError | None = None
    """Error because of which there is no caption, under `Captions.BEST_EFFORT`."""
    encode: Timings = Timings()
    describe: Timings = Timings()
    store_us: int = 0
    changes: tuple[Change, ...] = ()
    """Parts that differ from before, where the outcome is `Outcome.UPDATED`."""
    low_content: bool = False
    """The image is of one colour, or nearly so: its vector says little, and everything finds it."""
    fully_transparent: bool = False
    """No pixel of the image is visible; told only where a model looked at it."""
    near_duplicate: NearDuplicate | None = None
    """The nearest other item whose image looks the same, where that was asked for and there is one."""
    tags: Mapping[str, float] = field(default_factory=dict)
    """The labels that were written and their probabilities, best first, where an ingest asks for `Tags`."""
    error: LensmeshError | None = None
    trace_id: str = ""
    """Of the trace that the mesh keeps of `Client.ingest`; empty where it keeps none, and for items of a stream."""

    @property
    def ok(self) -> bool:
        """True where it is durable."""
        return self.error is None


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """A vector, and the space that it belongs to."""

    vector: Vectors
    """float32, shape (d,). Where one is given, anything that numpy makes such an array of."""
    space_id: str
    """Vectors of different spaces must never be compared."""


@dataclass(frozen=True, slots=True, eq=False)
class EmbedResult:
    """An input's embedding, or why there is none. Exactly one of the two is set."""

    index: int
    """Position in the input, from 0."""
    embedding: Embedding | None = None
    error: LensmeshError | None = None
    truncated: bool = False
    """A text was cut to the model's context."""
    low_content: bool = False
    """An image is of one colour, or nearly so."""
    fully_transparent: bool = False
    """No pixel of an image can be seen."""
    timings: Timings = Timings()
    perceptual_hash: PerceptualHash | None = None
    """An image's, where it was asked for."""
    local_features: LocalFeatures | None = None
    """An image's, where they were asked for."""


@dataclass(frozen=True, slots=True, eq=False)
class Embeddings:
    """Vectors of one space, in the order of the input."""

    vectors: Vectors
    """float32, shape (n, d). The row of a failed input is NaN."""
    space_id: str
    """Vectors of different spaces must never be compared."""
    errors: Mapping[int, LensmeshError]
    """By position in the input; empty where all went well."""
    truncated: tuple[bool, ...]
    """True where a text was cut to the model's context."""
    timings: tuple[Timings, ...]
    low_content: tuple[bool, ...] = ()
    """True where an image is of one colour, or nearly so."""
    fully_transparent: tuple[bool, ...] = ()
    """True where no pixel of an image can be seen."""
    perceptual_hashes: tuple[PerceptualHash | None, ...] = ()
    """Of images, where they were asked for; None for one that failed."""
    local_features: tuple[LocalFeatures | None, ...] = ()
    """Of images, where they were asked for; None for one that failed."""

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, index: int) -> Embedding:
        """Return one input's embedding. Raises its error, and IndexError beyond the last."""
        at = range(len(self))[index]
        if at in self.errors:
            raise self.errors[at]
        return Embedding(self.vectors[at], self.space_id)

    def checked(self) -> Vectors:
        """Return `vectors`. Raises the first failed input's error."""
        for index in sorted(self.errors):
            raise self.errors[index]
        return self.vectors

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[np.generic]:
        """Return what `numpy.asarray(embeddings)` asks for. Raises as `checked` does."""
        import numpy as np

        return np.array(self.checked(), dtype=dtype, copy=copy)


@dataclass(frozen=True, slots=True)
class CaptionResult:
    """An image's caption, or why there is none. Exactly one of the two is set."""

    caption: Caption | None = None
    error: LensmeshError | None = None
    timings: Timings = Timings()
    index: int = 0
    """Position in the input, from 0."""


@dataclass(frozen=True, slots=True)
class CaptionPiece:
    """The next piece of a caption that is watched while it is made."""

    text: str
    """To append, leading space included; in the last piece the whole caption."""
    caption: Caption | None = None
    """The whole, in the last piece only."""


@dataclass(frozen=True, slots=True)
class ClassifyResult:
    """Measure of how well each label fits one image, or why that is not known."""

    probabilities: Mapping[str, float] = field(default_factory=dict)
    """By label, in the order given; where only the best were asked for, those, best first. Summing to 1 over all labels
    for models trained with a softmax (CLIP), each for itself for a sigmoid (SigLIP)."""
    error: LensmeshError | None = None
    timings: Timings = Timings()
    truncated_labels: int = 0
    """Labels of which a text was longer than the model's context, and which count by their beginnings."""

    @property
    def ranked(self) -> list[tuple[str, float]]:
        """Labels and their probabilities, best first. Raises the image's error where there are none."""
        if self.error is not None:
            raise self.error
        return sorted(self.probabilities.items(), key=lambda scored: -scored[1])

    @property
    def best(self) -> str:
        """The label that fits best. Raises the image's error where there is none."""
        return self.ranked[0][0]
