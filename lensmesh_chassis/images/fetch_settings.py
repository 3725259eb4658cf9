"""Settings of fetching by address: what may be fetched, and how a service is told."""

from dataclasses import dataclass

from pydantic import Field, field_validator

from lensmesh_chassis.limits import DEFAULT_MAX_MESSAGE_BYTES
from lensmesh_chassis.settings import ServiceSettings


@dataclass(frozen=True)
class FetchPolicy:
    """Rules of what may be fetched.

    `schemes`: of http and https, none by default. `hosts`: empty means every public host; a name with a leading dot
    means all names below it. `private`: also allow addresses that are not public, for a network one trusts. `max_bytes`
    of one image, `call_bytes` of all images of one call, `all_bytes` of all that are held at a time. `parallel`: how
    many fetches run at a time. `timeout_s`: the whole of one fetch, from the name to the last byte, with redirects and
    waiting for room.
    """

    schemes: frozenset[str] = frozenset()
    hosts: frozenset[str] = frozenset()
    private: bool = False
    max_bytes: int = 20 * 1024**2
    timeout_s: float = 10.0
    call_bytes: int = DEFAULT_MAX_MESSAGE_BYTES
    all_bytes: int = 64 * 1024**2
    parallel: int = 16


class FetchSettings(ServiceSettings):
    """Settings of a service that takes images."""

    uri_schemes: str = Field(
        default="",
        description="Schemes of Image.uri that are fetched, comma-separated: https, http. Empty: none.",
    )
    uri_hosts: str = Field(
        default="",
        description="Hosts that may be fetched from, comma-separated; .example.org means all names below. Empty: any.",
    )
    uri_private: bool = Field(
        default=False,
        description="Whether addresses inside private networks may be fetched; off where callers are not trusted.",
    )
    uri_timeout_seconds: float = Field(default=10.0, gt=0, description="Longest time to fetch one image, in all.")
    uri_parallel: int = Field(default=16, ge=1, description="Images that are fetched at a time, for all calls.")
    uri_bytes: int = Field(
        default=64 * 1024**2,
        ge=1,
        description="Bytes of fetched images that are held at a time, for all calls, counted by the size that their "
        "servers announce before they are read. At least `max_message_bytes` are used.",
    )

    @field_validator("uri_schemes")
    @classmethod
    def _schemes_are_known(cls, value: str) -> str:
        if unknown := _listed(value) - {"http", "https"}:
            raise ValueError(f"{', '.join(sorted(unknown))}: only http and https can be fetched")
        return value

    def fetch_policy(self, max_bytes: int) -> FetchPolicy:
        """Return the policy that these settings make; `max_bytes` is the largest image."""
        return FetchPolicy(
            _listed(self.uri_schemes),
            _listed(self.uri_hosts),
            self.uri_private,
            max_bytes,
            self.uri_timeout_seconds,
            # What a message with the bytes themselves could carry.
            call_bytes=max(self.max_message_bytes, max_bytes),
            all_bytes=max(self.uri_bytes, self.max_message_bytes, max_bytes),
            parallel=self.uri_parallel,
        )


def _listed(value: str) -> frozenset[str]:
    return frozenset(part.strip().lower() for part in value.split(",") if part.strip())
