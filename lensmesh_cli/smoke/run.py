"""A run of all steps. Each outcome is told as it comes, and the run cleans up whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator

from lensmesh_chassis.errors import LensmeshError
from lensmesh_cli.console import note
from lensmesh_cli.signals import first_signal
from lensmesh_cli.smoke.looking import STEPS as LOOK
from lensmesh_cli.smoke.looking import for_error
from lensmesh_cli.smoke.mesh import Options, SmokeMesh
from lensmesh_cli.smoke.report import Broken, StepGrade, StepOutcome
from lensmesh_cli.smoke.steps import STEPS, SmokeStep, clean_up

POLL_S = 0.5
INTERRUPTED = "interrupted"
DELETE = "lensmesh.search.v1.SearchService/DeleteCollection"


async def smoke(options: Options, tell: Callable[[StepOutcome], None]) -> list[StepOutcome]:
    """Run the steps and return all outcomes.

    The first Ctrl-C or SIGTERM lets the current step end, skips the rest and cleans up.
    """
    stop = asyncio.Event()
    mesh = SmokeMesh(options)
    outcomes: list[StepOutcome] = []
    left_out = {name for name, address in {"trace": options.jaeger, "http": options.http}.items() if not address}
    with _signals(stop):
        try:
            await _wait(mesh, stop)
            for step in STEPS:
                if step.name in left_out:
                    continue
                outcome = await _outcome(step, mesh, outcomes, stop)
                outcomes.append(outcome)
                tell(outcome)
        finally:
            if mesh.wrote:
                outcomes.append(await _leave_nothing(mesh))
                tell(outcomes[-1])
            await mesh.close()
    return outcomes


@contextlib.contextmanager
def _signals(stop: asyncio.Event) -> Iterator[None]:
    """Set `stop` at the first signal. A second one ends the command at once, as usual."""

    def asked() -> None:
        note("interrupted: the step that runs is let to its end, then everything is removed (again: stop at once)")
        stop.set()

    with first_signal(asked):
        yield


async def _wait(mesh: SmokeMesh, stop: asyncio.Event) -> None:
    """Wait until the mesh is whole, or the time for that is over."""
    first = STEPS[:2]
    end = asyncio.get_running_loop().time() + mesh.options.wait_s
    while mesh.options.wait_s and asyncio.get_running_loop().time() < end and not stop.is_set():
        try:
            for step in first:
                await step.run(mesh)
            return
        except (LensmeshError, Broken):
            await asyncio.sleep(POLL_S)


async def _outcome(step: SmokeStep, mesh: SmokeMesh, before: list[StepOutcome], stop: asyncio.Event) -> StepOutcome:
    if stop.is_set():
        return StepOutcome(step.name, StepGrade.SKIP, 0.0, INTERRUPTED)
    if missing := [one.step for one in before if one.step in step.needs and one.grade is not StepGrade.OK]:
        return StepOutcome(step.name, StepGrade.SKIP, 0.0, f"needs {missing[0]}")
    start = asyncio.get_running_loop().time()

    def ended(grade: StepGrade, found: str, look: str = "") -> StepOutcome:
        return StepOutcome(step.name, grade, asyncio.get_running_loop().time() - start, found, look)

    try:
        return ended(StepGrade.OK, await step.run(mesh))
    except Broken as broken:
        return ended(StepGrade.FAIL, broken.found, broken.look or LOOK[step.name])
    except LensmeshError as error:
        return ended(StepGrade.FAIL, f"{error.message} ({error.reason})", for_error(step.name, error))


async def _leave_nothing(mesh: SmokeMesh) -> StepOutcome:
    """Clean up after a run that did not reach its own delete step, or whose delete step failed."""
    start = asyncio.get_running_loop().time()
    try:
        await clean_up(mesh)
    except (LensmeshError, Broken) as error:
        said = error.message if isinstance(error, LensmeshError) else error.found
        message = f'{{"name": "{mesh.collection}"}}'
        look = f"search and its store; once they answer: grpcurl -d '{message}' {mesh.options.target} {DELETE}"
        found = f"perhaps left behind: {mesh.collection} ({said})"
        return StepOutcome("clean-up", StepGrade.FAIL, asyncio.get_running_loop().time() - start, found, look)
    seconds = asyncio.get_running_loop().time() - start
    return StepOutcome("clean-up", StepGrade.OK, seconds, f"{mesh.collection} is gone")
