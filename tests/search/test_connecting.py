"""Connections that are being opened when nobody wants them any longer."""

import asyncio
from typing import Any

import pytest

from search_svc.postgres.connecting import Connector


class Connection:
    """A connection to nothing."""

    def __init__(self) -> None:
        self.is_open = True

    def terminate(self) -> None:
        self.is_open = False


@pytest.mark.parametrize("turns", range(12))
async def test_none_is_left_open_whenever_the_opening_is_cancelled(monkeypatch: pytest.MonkeyPatch, turns: int) -> None:
    made: list[Connection] = []

    async def connect(_self: Connector, _url: str, _wanted: str) -> Any:
        await asyncio.sleep(0)
        made.append(Connection())
        return made[-1]

    async def prepared(_self: Connector, connection: Any) -> Any:
        return connection

    monkeypatch.setattr(Connector, "_connect", connect)
    monkeypatch.setattr(Connector, "_prepared", prepared)
    opening = asyncio.create_task(Connector("postgresql://one,two/db", connect_s=5).open())
    for _ in range(turns):
        await asyncio.sleep(0)
    opening.cancel()
    await asyncio.wait([opening])
    kept = None if opening.cancelled() else opening.result()
    assert [one for one in made if one.is_open and one is not kept] == []
