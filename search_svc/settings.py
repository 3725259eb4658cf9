"""Settings of search, each an environment variable with the prefix LENSMESH_SEARCH_."""

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import SettingsConfigDict

from lensmesh_chassis.contract import local_address
from lensmesh_chassis.limits import MAX_FILTER_VALUES
from lensmesh_chassis.messages.structs import DEEPEST, DEFAULT_MAX_DEPTH
from lensmesh_chassis.settings import ServiceSettings
from search_svc.metadata import MetadataLimits
from search_svc.qdrant.address import Quantization
from search_svc.stores import STORES, either, store_kind


class SearchSettings(ServiceSettings):
    """Settings of where items are kept, and how much of them is handled at a time."""

    model_config = SettingsConfigDict(env_prefix="LENSMESH_SEARCH_", frozen=True)

    listen: str = local_address("search")

    memory_bytes: int = Field(
        448 * 1024 * 1024,
        ge=0,
        description="What the process may use, in bytes: a sixth of it for messages that come slowly, a quarter for "
        "answers that are made or not taken yet; above 85 % the slowest transfers are ended, and the largest messages "
        "are worked on one at a time. 0: the container's limit, or none where there is none.",
    )
    store_url: SecretStr = Field(
        description=f"Where items are kept: {either([f'{kind.form} ({kind.needs})' for kind in STORES])}."
    )
    pool_size: int = Field(default=10, ge=1, le=1000, description="Most connections to the store at a time.")
    store_connect_seconds: float = Field(
        default=5.0, gt=0, description="Longest time that one connection may take to open."
    )
    store_check_seconds: float = Field(
        default=2.0, gt=0, description="Time between two looks at the store; health follows what they see."
    )
    store_idle_seconds: float = Field(
        default=5.0,
        gt=0,
        description="Longest time that PostgreSQL waits for the next word of this replica inside a transaction, and "
        "keeps what that locked from others. A replica that stood still for longer (stopped, or its machine slept) "
        "writes nothing of what it had begun.",
    )
    call_seconds: float = Field(default=60.0, gt=0, description="Time for a call whose caller sets no deadline.")
    default_hits: int = Field(default=10, ge=1, description="Hits of a search that names no limit.")
    hnsw_ef: int = Field(
        default=200,
        ge=1,
        le=1000,
        description="Candidates that an HNSW index looks at where a search does not say. More find more of the nearest "
        "in large collections, and take longer.",
    )
    build_memory_bytes: int = Field(
        1024 * 1024 * 1024,
        ge=0,
        description="Most memory that PostgreSQL may take to build an index that was left for later, in bytes "
        "(maintenance_work_mem). It gets what the items need, at least what the server is set to; a graph that needs "
        "more is built on the disk, several times slower. Behind PgBouncer the server's own setting counts.",
    )
    build_workers: int = Field(
        2,
        ge=0,
        le=64,
        description="Processes that help to build such an index (max_parallel_maintenance_workers), as far as "
        "PostgreSQL has them free.",
    )
    job_parallel: int = Field(
        default=1, ge=0, le=16, description="Jobs that this replica works on at a time. 0: it leaves them to others."
    )
    job_lease_seconds: float = Field(
        default=15.0,
        ge=1,
        le=3600,
        description="Longest time until another replica goes on with the job of one that ended without a word, or "
        "stands still. One that drains gives its jobs back at once.",
    )
    job_keep_seconds: float = Field(
        default=7 * 86_400,
        ge=0,
        description="How long a job that ended can be asked for, with its result or its error.",
    )
    batch_parallel: int = Field(default=4, ge=1, description="Searches of one BatchSearch that run at a time.")
    max_items: int = Field(default=1000, ge=1, description="Items, ids or searches in one call.")
    max_page_size: int = Field(default=1000, ge=1, description="Items in a page of a list, values of a facet.")
    max_hits: int = Field(default=1000, ge=1, description="Hits of one search.")
    max_offset: int = Field(default=10_000, ge=0, description="Best hits that a search can leave out.")
    max_metadata_bytes: int = Field(default=65_536, ge=2, description="Metadata of one item as JSON.")
    max_metadata_depth: int = Field(
        default=DEFAULT_MAX_DEPTH,
        ge=1,
        le=DEEPEST,
        description="Levels of lists and objects in the metadata of one item.",
    )
    max_filter_values: int = Field(
        default=MAX_FILTER_VALUES,
        ge=1,
        le=MAX_FILTER_VALUES,
        description="Values in all conditions of one filter, or of all filters of a BatchSearch.",
    )
    max_text_chars: int = Field(default=10_000, ge=1, description="Characters of a caption and of an address.")

    qdrant_quantization: Quantization = Field(
        default="none",
        description="How new collections in Qdrant keep a small copy of their vectors in memory to search in: none, "
        "int8 (a quarter to half of the memory), or binary (a sixteenth or less; for 1,000 dimensions and more). Hits "
        "are scored by the whole vectors.",
    )
    qdrant_on_disk: bool = Field(
        default=False, description="Whether new collections in Qdrant leave vectors, index and items on the disk."
    )

    @property
    def metadata_limits(self) -> MetadataLimits:
        """Limits of one item's metadata."""
        return MetadataLimits(self.max_metadata_bytes, self.max_metadata_depth)

    @field_validator("store_url")
    @classmethod
    def _store_is_known(cls, value: SecretStr) -> SecretStr:
        # No part of the value is repeated: any may be a password.
        url = value.get_secret_value()
        store_kind(url).check_url(url)
        return value
