"""Parts of a mesh, as its router sees them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Health(StrEnum):
    """A replica's answer to grpc.health.v1, and one more."""

    UNKNOWN = "unknown"
    SERVING = "serving"
    NOT_SERVING = "not serving"
    UNREACHABLE = "unreachable"


class ModelKind(StrEnum):
    """Purpose of a model."""

    UNKNOWN = "unknown"
    LOCAL = "local"
    REMOTE = "remote"
    DEMONSTRATION = "demonstration"
    """The bundled models, which know drawn scenes only."""
    MOCK = "mock"
    """No model: answers derived from the content's digest."""


class LabelScoring(StrEnum):
    """Way in which a model makes probabilities of the scores of labels."""

    SOFTMAX = "softmax"
    """Of all labels of a request together; they sum to 1."""
    SIGMOID = "sigmoid"
    """Of each label for itself: several may fit, or none."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of what one call may hold. 0: does not apply."""

    max_message_bytes: int = 0
    max_items: int = 0
    max_image_bytes: int = 0
    max_image_pixels: int = 0
    max_text_chars: int = 0
    max_metadata_bytes: int = 0
    max_page_size: int = 0
    max_hits: int = 0
    max_offset: int = 0
    max_caption_tokens: int = 0
    max_image_side_ratio: int = 0
    max_metadata_depth: int = 0
    max_filter_values: int = 0
    max_labels: int = 0
    uri_schemes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Server:
    """The process that answered."""

    version: str = ""
    instance: str = ""
    start_time: datetime | None = None
    memory_bytes: int = 0
    """Resident."""


@dataclass(frozen=True, slots=True)
class Device:
    """A processor that a model runs on."""

    id: str
    name: str = ""
    threads: int = 0
    memory_total_bytes: int = 0
    memory_used_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Model:
    """A model of a model service."""

    name: str
    kind: ModelKind
    backend: str = ""
    precision: str = ""
    requested_device: str = ""
    devices: tuple[Device, ...] = ()
    weights_digest: str = ""
    parity_cosine: float | None = None
    """Lowest cosine to the float32 reference, from the check at start."""


@dataclass(frozen=True, slots=True)
class Space:
    """A set of vectors that can be compared with one another."""

    id: str
    model: str
    dimension: int
    normalized: bool
    on_white: bool = False
    """True where images are laid on white, False where their alpha channel is dropped."""
    weights_digest: str = ""
    """Hexadecimal SHA-256 of the model's tensors; empty for a remote model."""
    modalities: tuple[str, ...] = ()
    """Kinds of input that can be placed in it: "image", "text"."""


class ServiceKind(StrEnum):
    """A service behind the router."""

    ENCODER = "encoder"
    CAPTION = "caption"
    SEARCH = "search"


@dataclass(frozen=True, slots=True)
class AvailableModel:
    """A model that a service answers with."""

    model: Model
    spaces: tuple[Space, ...] = ()
    """Of an encoder's model; the first is its default."""
    context_tokens: int = 0
    """Tokens of a text that an encoder's model sees."""
    logit_scale: float | None = None
    """Factor by which an encoder's model multiplies a cosine to score a label; None: it cannot classify."""
    logit_bias: float | None = None
    """Number that it adds then; None means 0."""
    label_scoring: LabelScoring | None = None
    """Way in which it makes probabilities of scores; None: it cannot classify."""


@dataclass(frozen=True, slots=True)
class ServiceInfo:
    """Description of what one kind of service behind the router accepts and answers with."""

    kind: ServiceKind
    models: tuple[AvailableModel, ...]
    """The first is the default; none for search."""
    limits: Limits
    server: Server
    """The process that answered."""
    store: str = ""
    """Of search: the database's name and version."""


@dataclass(frozen=True, slots=True)
class Service:
    """A replica of one service."""

    name: str
    """Full name: "lensmesh.encoder.v1.EncoderService"."""
    address: str
    health: Health
    reason: str = ""
    """Text that says why, where it is not serving."""
    models: tuple[Model, ...] = ()
    spaces: tuple[Space, ...] = ()
    store: str = ""
    server: Server = Server()
    limits: Limits = Limits()

    @property
    def kind(self) -> str:
        """ "encoder", "caption", "search"."""
        parts = self.name.split(".")
        return parts[1] if len(parts) > 2 else self.name


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """Images that a router keeps."""

    thumbnails: bool = False
    originals: bool = False
    """True where files are kept as they came."""
    thumbnail_px: int = 0
    """The longer side of thumbnails that are made now, in pixels; 0 where none are kept."""
    trouble: str = ""
    """Text that says why the media store takes nothing now; images are ingested all the same."""


@dataclass(frozen=True, slots=True)
class MeshStatus:
    """Every service behind a router, the unreachable ones included."""

    services: tuple[Service, ...]
    limits: Limits
    """Limits of what the router accepts: the tightest of what lies behind it."""
    server: Server
    """The router itself."""
    default_collection: str = ""
    """Of a call that names none; "" where the router does not tell."""
    media: MediaInfo = MediaInfo()
    """Images that `Client.image` can read."""

    @property
    def serving(self) -> bool:
        """True where every service known is serving."""
        return bool(self.services) and all(service.health is Health.SERVING for service in self.services)
