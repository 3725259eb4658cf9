"""A service process for tests: the fake service behind `run`, its faults set by arguments."""

import asyncio
import logging
import sys
import threading
import time
from pathlib import Path
from typing import Any

from pydantic_settings import SettingsConfigDict

import lensmesh_chassis.process.grpc_log_level  # noqa: F401 - for its effect, which gRPC reads at its import
from lensmesh_chassis.errors import Unavailable
from lensmesh_chassis.process.server import Runtime, run
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.settings import ServiceSettings, load_settings
from tests.support.every_shape import FakeApp
from tests.support.waiting import until


class FakeSettings(ServiceSettings):
    """With a prefix of its own."""

    model_config = SettingsConfigDict(env_prefix="LENSMESH_FAKE_")


def build(runtime: Runtime[Any]) -> FakeApp:
    """The App as the first argument wants it."""
    app = FakeApp(runtime)
    match sys.argv[1:]:
        case ["refuses"]:
            app.start_fault = Unavailable(Reason.STORE_UNAVAILABLE, "the database at db:5432 does not answer: start it")
        case ["breaks"]:
            app.start_fault = ValueError("a bug")
        case ["fails"]:
            app.shapes.fault = ValueError("a bug")
        case ["hangs"]:
            app.hold_start = asyncio.Event()
        case ["gives-up"]:
            app.tasks.append(asyncio.create_task(_give_up(runtime)))
        case ["flaky"]:
            app.encoder.faults = [Unavailable(Reason.DRAINING, "another replica will do")]
        case ["holds", file]:
            app.shapes.hold = asyncio.Event()
            app.tasks.append(asyncio.create_task(_open_when(Path(file), app.shapes.hold)))
    return app


async def _open_when(file: Path, hold: asyncio.Event) -> None:
    await until(file.exists, seconds=600)
    hold.set()


async def _give_up(runtime: Runtime[Any]) -> None:
    await until(runtime.health.is_serving)
    threading.Thread(target=threading.Event().wait).start()
    logging.getLogger(__name__).critical("the last words")
    assert runtime.give_up is not None
    threading.Thread(target=runtime.give_up).start()
    time.sleep(3600)  # noqa: ASYNC251 - the loop is blocked


if __name__ == "__main__":
    run(load_settings(FakeSettings), build, "fake")
