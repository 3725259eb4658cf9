"""Settings of the front door from outside, as LENSMESH_HTTP_* variables."""

from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict

from http_svc.serving.origins import parse_hosts, parse_origins
from lensmesh_chassis.contract import HTTP_PORT, local_address
from lensmesh_chassis.settings import ServiceSettings
from lensmesh_client.arthur import COLLECTION

MIB = 1 << 20


class HttpSettings(ServiceSettings):
    """Where the door listens, which router it asks, and what one client may hold."""

    model_config = SettingsConfigDict(env_prefix="LENSMESH_HTTP_", frozen=True)

    listen: str = Field(
        f"127.0.0.1:{HTTP_PORT}",
        description="Addresses to serve on, comma-separated: `host:port` (port 0: a free one) or `unix:/path`. The tls "
        "settings apply to host:port.",
    )
    router_target: str = Field(
        local_address("router"), description="The router: host:port (a name may have several addresses) or unix:/path."
    )
    call_seconds: float = Field(
        60, gt=0, description="Longest call to the router, where the client sets no time of its own."
    )
    origins: str = Field(
        "",
        description="Origins whose pages may call, comma-separated (`https://app.example.org`), or `*` for any. Empty: "
        "only pages that the door itself serves. Programs that are no browser are not asked.",
    )
    hosts: str = Field(
        "",
        description="Names that requests may call the door by, comma-separated, `*.example.org` for all below one, `*` "
        "for any. Addresses and localhost always may. Empty: any name, unless all of `listen` is loopback; there a "
        "foreign name is a page that was bound to this machine (DNS rebinding).",
    )
    body_bytes: int = Field(
        44 * MIB,
        ge=64 * 1024,
        description="Size of a body that becomes one message: one of max_message_bytes as base64. A stream of "
        "/v1/ingest may be longer, its files and lines may not.",
    )
    body_values: int = Field(
        200_000, ge=1000, description="Values in one JSON body: what takes long to read, and much memory, is refused."
    )
    model_names: str = Field(
        "",
        description="Names by which clients of other systems may ask for the mesh's default model besides its own, "
        "comma-separated (`ViT-B-32__openai`); `*` for any. Vectors of different models are never comparable: name no "
        "model that such a client has vectors of.",
    )
    arthur_collection: str = Field(
        COLLECTION,
        max_length=63,
        pattern=r"^[a-z][a-z0-9_-]*$",
        description="The collection of the addresses of Arthur image recognition (`/match`, `/artist/image`, ...). It "
        "is made when the first image is added.",
    )
    trace_url: str = Field(
        "",
        description="Where a person looks at a trace: an address with `{trace_id}` in it, or one that ends before the "
        "id (`http://jaeger:16686/trace`). The page links to it. Empty: the page shows the id.",
    )
    header_seconds: float = Field(
        10, gt=0, description="How long a client may take to send the head of a request, since it connected or began."
    )
    body_seconds: float = Field(
        30, gt=0, description="How long a client may be silent in the middle of a body, or of taking an answer."
    )
    body_rate: int = Field(
        16 * 1024,
        ge=0,
        description="Bytes a second that a body must keep, beyond its first body_seconds: a slower one is ended.",
    )
    client_rate: float = Field(
        0,
        ge=0,
        description="Requests a second that one client address may make, on average; one more is refused (429, with "
        "Retry-After). 0: any number.",
    )
    client_burst: int = Field(50, ge=1, description="Requests that such a client may make at once.")
    trusted_proxies: str = Field(
        "",
        description="Addresses and networks of proxies before the door, comma-separated, whose `X-Forwarded-For` and "
        "`X-Forwarded-Proto` are believed; `*` for any. Empty: none, and a client is who connects.",
    )
    max_connections: int = Field(
        1024,
        ge=1,
        description="Connections at a time. One more closes the connection that has been idle for longest; where none "
        "is idle, it is closed itself.",
    )
    max_connection_idle_seconds: float = Field(
        75, ge=0, description="A connection without requests is closed after so long. 0: never."
    )
    memory_bytes: int = Field(
        0,
        ge=0,
        description="What the process may use, in bytes: a third of it for bodies of requests. 0: the container's "
        "limit, or none where there is none.",
    )

    @field_validator("origins")
    @classmethod
    def _origins_are_readable(cls, value: str) -> str:
        parse_origins(value)
        return value

    @field_validator("trace_url")
    @classmethod
    def _traces_are_somewhere(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError(f"{value!r} is no address of a page: write http://jaeger:16686/trace")
        return value

    @field_validator("hosts")
    @classmethod
    def _hosts_are_readable(cls, value: str) -> str:
        parse_hosts(value)
        return value
