"""Settings: read, refused with a name and a fix, frozen, shown without secrets, described."""

from typing import Any

import pytest
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import SettingsConfigDict

from lensmesh_chassis.settings import ServiceSettings, SettingsError, describe, load_settings, shown


class ProbeSettings(ServiceSettings):
    """A service's settings as a service writes them."""

    model_config = SettingsConfigDict(env_prefix="LENSMESH_PROBE_")

    listen: str = Field("127.0.0.1:50099", description="Where.")
    max_items: int = Field(16, ge=1, description="How many.")
    store_url: SecretStr = Field(SecretStr("postgresql://user:hunter2@host/db"), description="The store.")


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in describe(ProbeSettings):
        monkeypatch.delenv(setting.env, raising=False)


def refusal(monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    for name, value in variables.items():
        monkeypatch.setenv(f"LENSMESH_PROBE_{name}", value)
    with pytest.raises(SettingsError) as caught:
        load_settings(ProbeSettings)
    return str(caught.value)


def test_defaults_hold_where_nothing_is_set() -> None:
    settings = load_settings(ProbeSettings)
    assert settings.listen == "127.0.0.1:50099"
    assert settings.max_message_bytes == 32 * 1024 * 1024
    assert settings.instance


def test_variables_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LENSMESH_PROBE_MAX_ITEMS", "7")
    monkeypatch.setenv("LENSMESH_PROBE_LISTEN", "127.0.0.1:0, unix:/tmp/x.sock")
    assert load_settings(ProbeSettings).max_items == 7


def test_an_unknown_variable_is_named_with_its_neighbour(monkeypatch: pytest.MonkeyPatch) -> None:
    message = refusal(monkeypatch, MAX_ITEM="7")
    assert "LENSMESH_PROBE_MAX_ITEM " in message
    assert "did you mean LENSMESH_PROBE_MAX_ITEMS?" in message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SERVICE_HOST", "10.0.0.1"),
        ("SERVICE_PORT", "50051"),
        ("SERVICE_PORT_GRPC", "50051"),
        ("PORT", "tcp://10.0.0.1:50051"),
        ("PORT_50051_TCP", "tcp://10.0.0.1:50051"),
        ("PORT_50051_TCP_PROTO", "tcp"),
        ("PORT_50051_TCP_PORT", "50051"),
        ("PORT_50051_TCP_ADDR", "10.0.0.1"),
        ("GPU_SERVICE_HOST", "10.0.0.2"),
        ("GPU_PORT", "tcp://10.0.0.2:50051"),
    ],
)
def test_what_kubernetes_adds_is_ignored(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"LENSMESH_PROBE_{name}", value)
    assert load_settings(ProbeSettings).max_items == 16


def test_a_port_that_is_no_service_link_is_an_unknown_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "LENSMESH_PROBE_PORT is no setting" in refusal(monkeypatch, PORT="50051")


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("MAX_ITEMS", "many", "integer"),
        ("MAX_ITEMS", "0", "greater than or equal to 1"),
        ("LOG_FORMAT", "xml", "'auto', 'json' or 'console'"),
        ("DRAIN_SECONDS", "-1", "greater than or equal to 0"),
        ("LISTEN", "50051", "host:port"),
        ("LISTEN", "127.0.0.1:70000", "0 to 65535"),
        ("LISTEN", "", "no address"),
        ("LISTEN", "unix:/" + "x" * 120, "107"),
        ("LISTEN", "::1:50051", "brackets"),
        ("HEALTH_LISTEN", "unix:/tmp/h", "host:port"),
        ("METRICS_LISTEN", "9090", "host:port"),
    ],
)
def test_a_wrong_value_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str) -> None:
    message = refusal(monkeypatch, **{name: value})
    assert f"LENSMESH_PROBE_{name} is wrong" in message
    assert told in message


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"TLS_KEY_FILE": "k"}, "tls_certificate_file and tls_key_file belong together"),
        ({"PEER_CERTIFICATE_FILE": "c"}, "peer_certificate_file and peer_key_file belong together"),
        ({"TLS_CLIENT_CA_FILE": "a"}, "needs tls_certificate_file"),
        ({"PEER_CERTIFICATE_FILE": "c", "PEER_KEY_FILE": "k"}, "needs peer_ca_file"),
    ],
)
def test_settings_that_do_not_fit_together(monkeypatch: pytest.MonkeyPatch, variables: Any, told: str) -> None:
    assert told in refusal(monkeypatch, **variables)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        ProbeSettings().__setattr__("max_items", 3)


def test_secrets_are_hidden_where_settings_are_shown() -> None:
    text = str(shown(ProbeSettings()))
    assert "hunter2" not in text
    assert "50099" in text


def test_every_setting_is_described() -> None:
    settings = {setting.env: setting for setting in describe(ProbeSettings)}
    assert settings["LENSMESH_PROBE_MAX_ITEMS"].default == "16"
    assert settings["LENSMESH_PROBE_MAX_ITEMS"].type == "int"
    assert settings["LENSMESH_PROBE_STORE_URL"].type == "secret"
    assert "hunter2" not in str(settings)
    assert all(setting.description.endswith(".") for setting in settings.values())
    assert "LENSMESH_PROBE_DRAIN_SECONDS" in settings


def test_an_event_loop_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lensmesh_chassis.settings.has_uvloop", lambda: False)
    assert "LENSMESH_PROBE_EVENT_LOOP is wrong: uvloop is not installed here" in refusal(
        monkeypatch, EVENT_LOOP="uvloop"
    )
    monkeypatch.setenv("LENSMESH_PROBE_EVENT_LOOP", "auto")
    assert load_settings(ProbeSettings).event_loop == "auto"
