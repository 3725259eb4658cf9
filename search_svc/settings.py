"""Settings of search, each an environment variable with the prefix LENSMESH_SEARCH_."""

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import SettingsConfigDict

from lensmesh_chassis.settings import ServiceSettings


class SearchSettings(ServiceSettings):
    """Where items are kept, and how much of them at a time."""

    model_config = SettingsConfigDict(env_prefix="LENSMESH_SEARCH_", frozen=True)

    listen: str = "127.0.0.1:50053"

    store_url: SecretStr = Field(
        description="Where items are kept: postgresql://USER:PASSWORD@HOST:PORT/DATABASE (PostgreSQL 16 or newer with "
        "pgvector 0.8 or newer)."
    )
    pool_size: int = Field(default=10, ge=1, le=1000, description="Most connections to the store at a time.")
    store_connect_seconds: float = Field(
        default=5.0, gt=0, description="Longest time that one connection may take to open."
    )
    store_check_seconds: float = Field(
        default=2.0, gt=0, description="Time between two looks at the store; health follows what they see."
    )
    call_seconds: float = Field(default=60.0, gt=0, description="Time for a call whose caller sets no deadline.")
    default_hits: int = Field(default=10, ge=1, description="Hits of a search that names no limit.")
    hnsw_ef: int = Field(
        default=100, ge=1, le=1000, description="Candidates that an HNSW index looks at where a search does not say."
    )
    batch_parallel: int = Field(default=4, ge=1, description="Searches of one BatchSearch that run at a time.")
    max_items: int = Field(default=1000, ge=1, description="Items, ids or searches in one call.")
    max_page_size: int = Field(default=1000, ge=1, description="Items in a page of a list, values of a facet.")
    max_hits: int = Field(default=1000, ge=1, description="Hits of one search.")
    max_offset: int = Field(default=10_000, ge=0, description="Best hits that a search can leave out.")
    max_metadata_bytes: int = Field(default=65_536, ge=2, description="Metadata of one item as JSON.")
    max_text_chars: int = Field(default=10_000, ge=1, description="Characters of a caption and of an address.")

    @field_validator("store_url")
    @classmethod
    def _store_is_known(cls, value: SecretStr) -> SecretStr:
        # No part of the value is repeated: any may be a password.
        if value.get_secret_value().partition("://")[0] not in ("postgresql", "postgres"):
            raise ValueError("write postgresql://USER:PASSWORD@HOST:PORT/DATABASE: no other kind of store is known")
        return value
