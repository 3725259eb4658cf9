"""Settings of a router from outside, as LENSMESH_ROUTER_* variables."""

from collections.abc import Mapping
from importlib.util import find_spec

from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict

from lensmesh_chassis.contract import local_address
from lensmesh_chassis.images.fetch_settings import FetchSettings
from lensmesh_chassis.thumbnails import LEAST_PX, MOST_PX
from router_svc.media.address import parse_media_url
from router_svc.upstreams.discovery import parse_targets
from router_svc.upstreams.kinds import Kind

MIB = 1 << 20


class RouterSettings(FetchSettings):
    """Addresses of the mesh, what one caller may hold, and how long work waits for a service that is away."""

    model_config = SettingsConfigDict(env_prefix="LENSMESH_ROUTER_", frozen=True)

    listen: str = Field(local_address("router"), description="Addresses to serve on, comma-separated.")

    encoder_targets: str = Field(
        local_address("encoder"),
        description="Encoders, comma-separated: host:port (a name may have several addresses) or unix:/path; empty for "
        "none. The first one's default model is the mesh's default, and is waited for: no other one stands in for it.",
    )
    caption_targets: str = Field(local_address("caption"), description="Captioners, likewise.")
    search_targets: str = Field(local_address("search"), description="Search services of one store, likewise.")

    default_collection: str = Field("default", description="Collection of a request that names none.")
    default_space: str = Field(
        "",
        description="VectorSpace.id of a request that names none, and of collections that ingest makes; empty: that of "
        "the first of encoder_targets.",
    )

    max_items: int = Field(256, ge=1, description="Items in one call or one stream message.")
    max_image_bytes: int = Field(20 * MIB, ge=1, description="Size of one encoded image.")

    message_bytes: int = Field(
        32 * MIB,
        ge=MIB,
        description="Bytes of messages, of all calls, that are received and passed on: "
        "each is copied some four times on its way. Where they are reached no more is read; a call that waits for "
        "that for 5 s is refused (OVERLOADED).",
    )
    memory_bytes: int = Field(
        448 * MIB,
        ge=0,
        description="What the process may use, in bytes: a sixth of it for messages that come slowly, a quarter for "
        "answers that are made or not taken yet; above 85 % the slowest transfers are ended, and the largest messages "
        "are worked on one at a time. 0: the container's limit, or none where there is none.",
    )
    stream_in_flight_bytes: int = Field(
        8 * MIB,
        ge=1,
        description="Bytes of one stream that are read and not yet answered: more keeps more encoders busy and takes "
        "some ten times as much memory.",
    )
    stream_in_flight_items: int = Field(
        1024, ge=1, description="Items of one stream that are read and not yet answered."
    )
    all_in_flight_bytes: int = Field(
        12 * MIB, ge=1, description="Bytes of all streams that are read and not yet answered."
    )
    batch_items: int = Field(32, ge=1, description="Items in one batch call that the router makes for a stream.")
    batch_bytes: int = Field(8 * MIB, ge=1, description="Bytes in one such call.")
    batch_calls: int = Field(4, ge=1, description="Such calls of one stream at a time.")

    verify_threads: int = Field(
        0, ge=0, description="Threads that compare the local features of matches; 0: one for each CPU, 4 at most."
    )

    media_url: str = Field(
        "",
        description="Where thumbnails of ingested images are kept: a folder (`/var/lib/lensmesh/media` or "
        "`file:///...`) or `s3://BUCKET/PREFIX`, whose credentials, region and endpoint come from the "
        "environment (`AWS_ACCESS_KEY_ID`, "
        "`AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `AWS_ENDPOINT_URL`). Empty: none are kept.",
    )
    keep_originals: bool = Field(False, description="Whether the images' files are kept there too, as they came.")
    thumbnail_px: int = Field(320, ge=LEAST_PX, le=MOST_PX, description="Longer side of thumbnails, in pixels.")
    media_waiting_bytes: int = Field(
        16 * MIB,
        ge=1,
        description="Bytes of thumbnails and files that wait for the media store; one that is larger waits alone. What "
        "finds no room is dropped, and made up when its image is ingested again.",
    )

    wait_seconds: float = Field(
        60, ge=0, description="How long a stream's item waits until an encoder or the store takes it."
    )
    caption_wait_seconds: float = Field(
        120,
        ge=0,
        description="How long a stream's items wait for captioners that went away or still load their model, since the "
        "last of them went; then items are stored without captions, or refused where captions are required. One that "
        "has never answered is waited for 5 s at most.",
    )
    call_seconds: float = Field(
        600, gt=0, description="Longest call to a service behind the router, where the caller sets no deadline."
    )
    probe_seconds: float = Field(1.5, gt=0, description="How long a replica has to tell its health and what it serves.")
    refresh_seconds: float = Field(5, gt=0, description="How often every replica is asked what it serves.")
    collection_cache_seconds: float = Field(5, ge=0, description="How long a collection's definition is believed.")

    @field_validator("encoder_targets", "caption_targets", "search_targets")
    @classmethod
    def _targets_are_readable(cls, value: str) -> str:
        parse_targets(value)
        return value

    @field_validator("media_url")
    @classmethod
    def _media_url_is_readable(cls, value: str) -> str:
        if parse_media_url(value) is not None and find_spec("obstore") is None:
            raise ValueError('it takes obstore, which is not installed: pip install "lensmesh[router]"')
        return value

    def targets(self) -> Mapping[Kind, tuple[str, ...]]:
        """Return every target, by kind, in order."""
        return {
            Kind.ENCODER: parse_targets(self.encoder_targets),
            Kind.CAPTIONER: parse_targets(self.caption_targets),
            Kind.SEARCH: parse_targets(self.search_targets),
        }
