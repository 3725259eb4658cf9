"""The measurements that `lensmesh bench` makes at one address."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lensmesh_cli.load import encoding
from lensmesh_cli.load.figures import CallSample, LoadFigures, summarize
from lensmesh_cli.load.loops import closed_loop, open_loop
from lensmesh_cli.load.mode import Mode

if TYPE_CHECKING:
    from lensmesh.encoder.v1.encoder_pb2_grpc import EncoderServiceAsyncStub

Press = Callable[["EncoderServiceAsyncStub", Iterator[encoding.Item], float], Awaitable[Sequence[CallSample]]]


@dataclass(frozen=True, slots=True)
class LoadStep:
    """A measurement to make. `offered` is the rate of an open loop, None of a closed one."""

    name: str
    mode: Mode
    concurrency: int
    press: Press
    offered: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """The result of one step."""

    name: str
    mode: Mode
    concurrency: int
    figures: LoadFigures


def closed_steps(modes: Sequence[Mode], concurrency: Sequence[int], batch: int) -> list[LoadStep]:
    """Return a step for every mode and number of callers. For a stream the number is that of items in flight."""
    steps = []
    for mode in modes:
        for callers in concurrency:
            match mode:
                case Mode.STREAM:
                    steps.append(LoadStep(f"stream, {callers} in flight", mode, callers, _stream(callers)))
                case Mode.BATCH:
                    name = f"batches of {batch}, {_callers(callers)}"
                    steps.append(LoadStep(name, mode, callers, _closed(callers, batch)))
                case Mode.UNARY:
                    steps.append(LoadStep(f"unary, {_callers(callers)}", mode, callers, _closed(callers, 1)))
    return steps


def open_steps(rates: Sequence[float]) -> list[LoadStep]:
    """Return steps that send single items at constant rates."""
    return [LoadStep(f"unary, {rate:.4g}/s offered", Mode.UNARY, 0, _open(rate), rate) for rate in rates]


async def take(
    step: LoadStep, stub: EncoderServiceAsyncStub, supply: Iterator[encoding.Item], *, seconds: float, warm: float
) -> Row:
    """Run a step: `warm` seconds that do not count, then `seconds` that do."""
    clock = asyncio.get_running_loop().time
    begin = clock() + warm
    samples = await step.press(stub, supply, warm + seconds)
    found = summarize(samples, begin, begin + seconds, step.offered)
    return Row(step.name, step.mode, step.concurrency, found)


def _callers(count: int) -> str:
    return "1 caller" if count == 1 else f"{count} callers"


def _closed(callers: int, batch: int) -> Press:
    return lambda stub, supply, seconds: closed_loop(
        encoding.calls(stub, supply, batch=batch), concurrency=callers, seconds=seconds
    )


def _open(rate: float) -> Press:
    return lambda stub, supply, seconds: open_loop(encoding.calls(stub, supply), rate=rate, seconds=seconds)


def _stream(in_flight: int) -> Press:
    return lambda stub, supply, seconds: encoding.stream(stub, supply, in_flight=in_flight, seconds=seconds)
