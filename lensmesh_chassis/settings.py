"""Settings: frozen typed classes, read from prefixed environment variables; an unknown name is an error."""

import difflib
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError as SourceError

from lensmesh_chassis.contract import local_address
from lensmesh_chassis.limits import DEFAULT_MAX_MESSAGE_BYTES
from lensmesh_chassis.process.addresses import parse_address, parse_addresses
from lensmesh_chassis.process.event_loop import has_uvloop
from lensmesh_chassis.settings_error import SettingsError as SettingsError
from lensmesh_chassis.telemetry.dsn import check_dsn
from lensmesh_chassis.tls.identities import parse_identities

# What Kubernetes adds to every pod for each Service of the namespace, "Discovering services" in its documentation.
_KUBERNETES = re.compile(
    r".*_SERVICE_HOST|.*_SERVICE_PORT(_[A-Z0-9_]+)?|.*_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?"
)
_KUBERNETES_URL = re.compile(r"(tcp|udp|sctp)://.*")


class ServiceSettings(BaseSettings):
    """Settings that every service has. A subclass sets `SettingsConfigDict(env_prefix="LENSMESH_ENCODER_")`."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", validate_default=True, env_prefix="LENSMESH_")

    listen: str = Field(
        local_address("encoder"),
        description="Addresses to serve on, comma-separated: `host:port` (port 0: a free one) or `unix:/path`. The tls "
        "settings apply to host:port; a unix socket is guarded by its folder's permissions.",
    )
    health_listen: str = Field(
        "",
        description="A second, plain-text `host:port` that answers grpc.health.v1 alone, for probes that speak neither "
        "TLS nor unix sockets. Empty: none.",
    )
    metrics_listen: str = Field("", description="`host:port` of the Prometheus endpoint. Empty: none.")
    restarts: int = Field(
        0, ge=0, description="How often a supervisor has started this service again, for the metrics; it sets this."
    )
    ready_file: str = Field(
        "",
        description="A file to write the bound addresses to, as JSON, once the server answers; for supervisors that "
        "asked for port 0. Empty: none.",
    )
    instance: str = Field(
        default_factory=socket.gethostname,
        description="Name of this replica in GetInfo, logs and traces. Default: the host's name.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe level that is logged."
    )
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="How logs are written to standard error; auto: console on a terminal, json elsewhere."
    )
    event_loop: Literal["auto", "uvloop", "asyncio"] = Field(
        "auto",
        description="What runs the service's coroutines: uvloop, which takes less of a processor for each call, or "
        "Python's own asyncio. auto: uvloop where it is installed.",
    )
    drain_seconds: float = Field(
        20, ge=0, description="Longest time that calls in flight get to finish after SIGTERM, in seconds."
    )
    max_message_bytes: int = Field(
        DEFAULT_MAX_MESSAGE_BYTES,
        ge=64 * 1024,
        le=1024 * 1024 * 1024,
        description="Largest message either way, in bytes. The transport lets a quarter more pass, to answer with a "
        "typed error.",
    )
    max_calls: int = Field(
        512,
        ge=1,
        description="Calls at a time, open streams among them; one more is refused at once with RESOURCE_EXHAUSTED "
        "(OVERLOADED). Health, reflection, GetInfo and GetStatus still answer.",
    )
    message_bytes: int = Field(
        64 * 1024 * 1024,
        ge=1024 * 1024,
        description="Bytes of messages, of all calls, that are received and worked on. Where they are "
        "reached no more is read; a call that waits for that for 5 s is refused (OVERLOADED).",
    )
    memory_bytes: int = Field(
        0,
        ge=0,
        description="What the process may use, in bytes: a sixth of it for messages that come slowly, a quarter for "
        "answers that are made or not taken yet; above 85 % the slowest transfers are ended, and the largest messages "
        "are worked on one at a time. 0: the container's limit, or none where there is none.",
    )
    max_connections: int = Field(
        512, ge=1, description="Connections at a time; more are closed as they come. A client needs one."
    )
    max_connection_idle_seconds: float = Field(
        900,
        ge=0,
        description="A connection without calls is closed after so long; its client connects again. 0: never.",
    )
    max_connection_age_seconds: float = Field(
        0,
        ge=0,
        description="Age at which a client's connection is closed, once the calls on it have ended. The client "
        "connects anew, asks the name service again and so finds replicas that were added. 0: never.",
    )
    tls_certificate_file: str = Field("", description="PEM certificate chain of this server. Empty: plain text.")
    tls_key_file: str = Field("", description="PEM private key of that certificate.")
    tls_client_ca_file: str = Field(
        "",
        description="PEM certificates that sign clients. If set, a client without such a certificate is refused "
        "(mutual TLS).",
    )
    tls_client_ids: str = Field(
        "",
        description="SPIFFE ids that may call, comma-separated, `*` for any text: a client certificate must carry one "
        "of them. Empty: any certificate of tls_client_ca_file. Health and reflection answer without.",
    )
    peer_ca_file: str = Field(
        "", description="PEM certificates that sign the services this one calls. Empty: they are called in plain text."
    )
    peer_certificate_file: str = Field(
        "", description="PEM certificate chain shown to the services this one calls (mutual TLS)."
    )
    peer_key_file: str = Field("", description="PEM private key of that certificate.")

    sentry_dsn: SecretStr = Field(
        SecretStr(""),
        description="Where unexpected errors are sent: the DSN of a Sentry project, `https://KEY@HOST/PROJECT`. Sent "
        "are types, stack frames' names and the ids of the call: no message, image, text or secret. Empty: none.",
    )
    sentry_environment: str = Field("production", description="Name of this deployment in the errors sent.")
    sentry_sample_rate: float = Field(1.0, ge=0, le=1, description="Share of the errors that is sent.")

    @field_validator("sentry_dsn")
    @classmethod
    def _errors_can_be_sent(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value():
            check_dsn(value.get_secret_value())
        return value

    @field_validator("event_loop")
    @classmethod
    def _event_loop_is_there(cls, value: str) -> str:
        if value == "uvloop" and not has_uvloop():
            raise ValueError("uvloop is not installed here: pip install uvloop, or write asyncio")
        return value

    @field_validator("listen")
    @classmethod
    def _listen_is_readable(cls, value: str) -> str:
        parse_addresses(value)
        return value

    @field_validator("tls_client_ids")
    @classmethod
    def _identities_are_readable(cls, value: str) -> str:
        parse_identities(value)
        return value

    @field_validator("health_listen", "metrics_listen")
    @classmethod
    def _tcp_or_empty(cls, value: str) -> str:
        if value and parse_address(value).path:
            raise ValueError("write host:port; a unix socket will not do here")
        return value

    @model_validator(mode="after")
    def _certificates_have_keys(self) -> "ServiceSettings":
        for certificate, key in (("tls_certificate_file", "tls_key_file"), ("peer_certificate_file", "peer_key_file")):
            if bool(getattr(self, certificate)) != bool(getattr(self, key)):
                raise ValueError(f"{certificate} and {key} belong together: set both or none")
        if self.tls_client_ca_file and not self.tls_certificate_file:
            raise ValueError("tls_client_ca_file needs tls_certificate_file and tls_key_file")
        if self.tls_client_ids and not self.tls_client_ca_file:
            raise ValueError("tls_client_ids needs tls_client_ca_file: only a checked certificate says who calls")
        if self.peer_certificate_file and not self.peer_ca_file:
            raise ValueError("peer_certificate_file needs peer_ca_file")
        return self


@dataclass(frozen=True)
class Setting:
    """A setting as documentation shows it."""

    env: str
    type: str
    default: str
    description: str


T = TypeVar("T", bound=BaseSettings)


def load_settings(cls: type[T]) -> T:
    """Read `cls` from the environment. Raises SettingsError naming each wrong variable and its fix."""
    prefix = _prefix(cls)
    environment = dict(os.environ)
    unknown = _unknown(cls, environment)
    if unknown:
        raise SettingsError("\n".join(unknown))
    try:
        # A Service's variable may look like a setting (LENSMESH_ENCODER_PORT): the value tells them apart.
        return cls()
    except ValidationError as error:
        lines = [_explain(prefix, problem) for problem in error.errors()]
        raise SettingsError("\n".join(lines)) from None
    except SourceError as error:
        raise SettingsError(f"the settings {prefix}* cannot be read: {error}") from None


def describe(cls: type[BaseSettings]) -> list[Setting]:
    """Return every setting of `cls` in the order of its definition, inherited ones first."""
    return [
        Setting(
            env=_env_name(cls, name),
            type=_type_name(field.annotation),
            default=_default_text(name, field),
            description=field.description or "",
        )
        for name, field in cls.model_fields.items()
    ]


def shown(settings: BaseSettings) -> dict[str, Any]:
    """Return the settings as they may be logged: secrets hidden."""
    return settings.model_dump(mode="json")


def _prefix(cls: type[BaseSettings]) -> str:
    return str(cls.model_config.get("env_prefix", "")).upper()


def _env_name(cls: type[BaseSettings], name: str) -> str:
    return _prefix(cls) + name.upper()


def _unknown(cls: type[BaseSettings], environment: Mapping[str, str]) -> list[str]:
    prefix = _prefix(cls)
    known = [_env_name(cls, name) for name in cls.model_fields]
    messages = []
    for name, value in sorted(environment.items()):
        upper = name.upper()
        if not upper.startswith(prefix) or upper in known or _is_kubernetes(upper, value):
            continue
        near = difflib.get_close_matches(upper, known, n=1, cutoff=0.0)
        messages.append(f"{name} is no setting: did you mean {near[0]}? Remove it or correct its name.")
    return messages


def _is_kubernetes(name: str, value: str) -> bool:
    return bool(_KUBERNETES.fullmatch(name) or (name.endswith("_PORT") and _KUBERNETES_URL.fullmatch(value)))


def _explain(prefix: str, problem: Any) -> str:
    message = str(problem["msg"]).removeprefix("Value error, ")
    if not problem["loc"]:
        return f"the settings {prefix}* do not fit together: {message}"
    name = prefix + str(problem["loc"][0]).upper()
    return f"{name} is wrong: {message}"


def _type_name(annotation: Any) -> str:
    if annotation is SecretStr:
        return "secret"
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")


def _default_text(name: str, field: Any) -> str:
    if field.default_factory is not None:
        return "(computed)"
    if field.default is PydanticUndefined:
        return "(required)"
    return str(field.default)
