"""Shapes of answers: what handlers build by hand, and what the OpenAPI document tells of them."""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

Count = Annotated[int, Field(ge=0)]


class FieldShape(TypedDict):
    """A field of the request, and what is wrong with it."""

    field: str
    description: str


class ErrorShape(TypedDict):
    """An error: `code` as gRPC names it, `reason` for programs, `message` for people."""

    code: str
    reason: str
    message: str
    fields: NotRequired[list[FieldShape]]
    retry_after_seconds: NotRequired[float]
    metadata: NotRequired[dict[str, str]]


class FailureShape(TypedDict):
    """The answer of a request that failed."""

    error: ErrorShape


class ImageShape(TypedDict):
    """An image that is stored."""

    id: str
    collection: str
    caption: str | None
    caption_model: str | None
    image_uri: str | None
    metadata: dict[str, Any]
    content_digest: str | None
    created_at: str | None
    updated_at: str | None
    thumbnail: str | None
    original: str | None


class LegShape(TypedDict):
    """What one query of several said of a hit."""

    name: str
    score: float
    rank: Count


class HitShape(TypedDict):
    """An image that was found. `rank` counts from 1, over all pages."""

    image: ImageShape
    score: float
    relevance: float | None
    rank: Count
    legs: list[LegShape]


class GroupShape(TypedDict):
    """Hits with the same values of the fields that group; a hit that lacks one of them is alone, without values."""

    values: dict[str, Any]
    hits: list[HitShape]


class FailedQueryShape(TypedDict):
    """A query that was left out, and why."""

    name: str
    error: ErrorShape


class SearchShape(TypedDict):
    """What was found, best first. `groups` has the same hits, where groups were asked for."""

    hits: list[HitShape]
    groups: list[GroupShape] | None
    exact: bool
    encode_ms: float
    store_ms: float
    failed_queries: list[FailedQueryShape]


class NearShape(TypedDict):
    """Another image that looks the same; `distance` in bits, 0 to 31."""

    id: str
    distance: Count


class TagShape(TypedDict):
    """A label and how well it fits, 0 to 1."""

    label: str
    probability: float


Outcome = Literal["created", "updated", "unchanged", "skipped", ""]


class IngestedShape(TypedDict):
    """An image that is durable; null where it was left out (`skipped`) and nothing is stored under its id."""

    image: ImageShape | None
    outcome: Outcome
    near_duplicate: NotRequired[NearShape]
    tags: NotRequired[list[TagShape]]
    caption_error: NotRequired[ErrorShape]
    encode_ms: float
    caption_ms: float
    store_ms: float


class ImagesShape(TypedDict):
    """A page of images. `next_page_token` is empty after the last one."""

    images: list[ImageShape]
    next_page_token: str
    total: NotRequired[Count]


class StreamedImageShape(TypedDict):
    """What is known of an image as soon as it is durable."""

    id: str
    collection: str
    caption: str | None
    caption_model: str | None
    content_digest: str | None
    thumbnail: str | None
    original: str | None


class StreamedShape(TypedDict):
    """One image of an ingest: `image` and `outcome`, or `error`. `index` counts files or lines from 0."""

    ref: str
    index: Count
    name: str
    image: NotRequired[StreamedImageShape]
    outcome: NotRequired[Outcome]
    near_duplicate: NotRequired[NearShape]
    caption_error: NotRequired[ErrorShape]
    error: NotRequired[ErrorShape]


class DoneShape(TypedDict):
    """What became of all of an ingest."""

    items: Count
    created: Count
    updated: Count
    unchanged: Count
    skipped: Count
    failed: Count
    seconds: float


class DoneLineShape(TypedDict):
    """The last line of an ingest that read all of its body."""

    done: DoneShape


class CaptionedShape(TypedDict):
    """The caption of one image, or why there is none."""

    caption: NotRequired[str]
    model: NotRequired[str]
    confidence: NotRequired[float]
    error: NotRequired[ErrorShape]


class CaptionsShape(TypedDict):
    """One result for each image, in the order of the request."""

    results: list[CaptionedShape]


class SpaceShape(TypedDict):
    """A vector space. Vectors of different spaces are never compared."""

    id: str
    model: str
    dimension: Count
    normalized: bool
    modalities: list[str]


class VectorShape(TypedDict):
    """The vector of one input, or why there is none."""

    vector: NotRequired[list[float]]
    truncated: NotRequired[bool]
    error: NotRequired[ErrorShape]


class VectorsShape(TypedDict):
    """One result for each input, in the order of the request; `space` is null where all failed."""

    space: SpaceShape | None
    results: list[VectorShape]


class LabelledShape(TypedDict):
    """The labels of one image, best first, or why there are none."""

    labels: NotRequired[list[TagShape]]
    error: NotRequired[ErrorShape]


class LabelsShape(TypedDict):
    """One result for each image, in the order of the request."""

    results: list[LabelledShape]


class GeometryShape(TypedDict):
    """Local features that one change of perspective explains. Of a pair, x and y here and there, by the longer side."""

    inliers: Count
    tentative: Count
    query_points: Count
    item_points: Count
    places: Count
    homography: list[float]
    pairs: list[float]


class CandidateShape(TypedDict):
    """An entry that an image may show."""

    image: ImageShape
    entry: dict[str, Any] | None
    confidence: float
    basis: str
    cosine: float | None
    hash_distance: int | None
    geometry: GeometryShape | None


class MatchedShape(TypedDict):
    """What one image shows, or why that is not known."""

    verdict: NotRequired[Literal["match", "unsure", "no_match", ""]]
    best: NotRequired[CandidateShape | None]
    alternatives: NotRequired[list[CandidateShape]]
    ambiguous: NotRequired[bool]
    error: NotRequired[ErrorShape]


class MatchesShape(TypedDict):
    """One result for each image, in the order of the request."""

    results: list[MatchedShape]


class CalibrationShape(TypedDict):
    """What cosines of a modality mean in a space: percentiles of unrelated pairs, and the median of matching ones."""

    modality: str
    median: float
    p90: float
    p99: float
    p999: float
    match_median: float
    measured_at: str | None


class NamedSpaceShape(TypedDict):
    """A kind of vector that the images of a collection have."""

    name: str
    space: SpaceShape
    index: str
    index_progress: float
    index_error: ErrorShape | None
    calibrations: list[CalibrationShape]


class IndexedFieldShape(TypedDict):
    """A metadata field that facets count and filters use."""

    field: str
    type: str


class CollectionShape(TypedDict):
    """A set of images with the same vector spaces."""

    name: str
    uid: str
    item_count: Count
    created_at: str | None
    language: str
    local_features: bool
    spaces: list[NamedSpaceShape]
    fields: list[IndexedFieldShape]


class CollectionsShape(TypedDict):
    """A page of collections, by name."""

    collections: list[CollectionShape]
    next_page_token: str


class DeletedShape(TypedDict):
    """How many images went."""

    deleted_count: Count


class ValueCountShape(TypedDict):
    """A value, and how many images have it."""

    value: Any
    count: Count


class FacetShape(TypedDict):
    """Values of a field, most frequent first; `other_count` images have none of them."""

    field: str
    values: list[ValueCountShape]
    other_count: Count


class FacetsShape(TypedDict):
    """Facets in the order asked for; `total` is how many images there are."""

    facets: list[FacetShape]
    total: Count


class JobShape(TypedDict):
    """Work on a collection that takes longer than a call."""

    id: str
    kind: str
    collection: str
    state: str
    cancel_requested: bool
    done_count: Count
    total_count: Count
    units_per_second: float
    time_left_ms: int | None
    message: str
    error: ErrorShape | None
    created_at: str | None
    started_at: str | None
    ended_at: str | None
    result: dict[str, Any] | None


class JobsShape(TypedDict):
    """A page of jobs, newest first."""

    jobs: list[JobShape]
    next_page_token: str


class DeviceShape(TypedDict):
    """A processor that a model runs on."""

    id: str
    name: str
    memory_total_bytes: Count
    memory_used_bytes: Count


class ModelShape(TypedDict):
    """A model that a service runs."""

    name: str
    kind: str
    backend: str
    precision: str
    devices: list[DeviceShape]


class ServiceShape(TypedDict):
    """One replica of one service."""

    kind: str
    address: str
    health: Literal["serving", "not_serving", "unreachable", "unknown"]
    reason: str
    version: str
    instance: str
    started_at: str | None
    memory_bytes: Count
    store: str
    models: list[ModelShape]


class LimitsShape(TypedDict):
    """What one request may hold; 0 where that does not apply."""

    max_message_bytes: Count
    max_items: Count
    max_image_bytes: Count
    max_image_pixels: Count
    max_text_chars: Count
    max_page_size: Count
    max_hits: Count
    max_offset: Count
    max_labels: Count
    uri_schemes: list[str]


class MediaShape(TypedDict):
    """What the mesh keeps of the images themselves."""

    thumbnails: bool
    originals: bool
    thumbnail_px: Count
    trouble: str


class StatusShape(TypedDict):
    """The mesh, for people."""

    version: str
    default_collection: str
    services: list[ServiceShape]
    limits: LimitsShape
    media: MediaShape
    trace_url: str | None
