"""The address of a Redis as a setting: what is wrong is said, and its password never."""

from __future__ import annotations

import pytest
from pydantic import SecretStr, ValidationError

from encoder_svc.settings import EncoderSettings
from lensmesh_chassis.settings import SettingsError, load_settings, shown
from lensmesh_inference.cache import redis_address

GOOD = [
    "redis://cache.internal",
    "redis://cache.internal:6379/0",
    "rediss://user:hunter2@cache.internal:6380/3?ssl_ca_certs=/etc/ca.pem",
    "redis://:hunter2@[::1]:6379",
    "unix:///run/redis.sock?db=1&password=hunter2",
]
BAD = [
    "hunter2",
    "http://:hunter2@cache:6379",
    "redis://:hunter2@",
    "redis://:hunter2@cache:port/0",
    "redis://:hunter2@cache:6379/zero",
    "redis://:hunter2@cache:6379?socket_timeout=long",
    "unix://?password=hunter2",
]


@pytest.mark.parametrize("url", GOOD)
def test_addresses_that_work(url: str) -> None:
    settings = EncoderSettings(redis_url=SecretStr(url))
    assert "hunter2" not in f"{settings} {shown(settings)} {redis_address.shown(url)}"
    assert redis_address.shown(url).partition("?")[0] in url.replace("user:hunter2@", "").replace(":hunter2@", "")


@pytest.mark.parametrize("url", BAD)
def test_what_is_wrong_is_said_without_its_words(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LENSMESH_ENCODER_REDIS_URL", url)
    with pytest.raises(SettingsError) as caught:
        load_settings(EncoderSettings)
    message = str(caught.value)
    assert message.startswith("LENSMESH_ENCODER_REDIS_URL is wrong: ")
    assert "hunter2" not in message
    assert "zero" not in message


def test_without_the_client_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_address, "find_spec", lambda _: None)
    with pytest.raises(ValidationError, match=r"install lensmesh\[redis\]"):
        EncoderSettings(redis_url=SecretStr(GOOD[0]))
    EncoderSettings()
