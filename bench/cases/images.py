"""The throughput of images: the in-process limit, each way through gRPC, and open_clip as everyone writes it."""

from __future__ import annotations

from bench.measure import Case, read_figures
from bench.stage import Stage
from bench.worker import Worker
from lensmesh_cli.load.figures import LoadFigures


def of(worker: Worker, key: str, title: str, what: str, **arguments: object) -> Case:
    """Make a case that is one request to one worker."""

    async def measure(seconds: float, warm: float) -> LoadFigures:
        answer = await worker.ask(what, seconds=seconds, warm=warm, timeout_s=600 + 10 * (seconds + warm), **arguments)
        return read_figures(answer)

    return Case(key, title, measure)


async def throughput(stage: Stage) -> list[Case]:
    """Make the cases that the figures compare."""
    encoder = await stage.encoder()
    router = await stage.router(encoder)
    direct, routed = await stage.caller(encoder), await stage.caller(router)
    batch = stage.options.batch
    return [
        of(await stage.limit(), "limit", "in-process limit", "images"),
        of(direct, "stream", "EncodeStream", "stream", items="images"),
        of(routed, "router-stream", "EncodeStream through the Router", "stream", items="images"),
        # Two at a time: while one is in the model the other is decoded.
        of(direct, "batch", f"EncodeImages of {batch}", "closed", items="images", batch=batch, concurrency=2),
        of(direct, "unary", "EncodeImages of 1, 64 callers", "closed", items="images", batch=1, concurrency=64),
        *await open_clip(stage),
    ]


async def open_clip(stage: Stage, key: str = "open_clip") -> list[Case]:
    """Make the case of open_clip as everyone writes it."""
    return [of(await stage.open_clip(), key, "open_clip, fp32, one by one", "images")]


async def latency(stage: Stage, rates: list[float]) -> list[Case]:
    """Make cases with calls of one image: closed loops by callers, open loops by rate."""
    caller = await stage.caller(await stage.encoder())
    cases = [
        of(
            caller,
            f"closed-{callers}",
            f"closed loop, {callers} callers",
            "closed",
            items="images",
            batch=1,
            concurrency=callers,
        )
        for callers in (1, 8, 64)
    ]
    return cases + [
        of(caller, f"open-{rate:.2f}", f"open loop, {rate:.2f}/s offered", "open", items="images", rate=rate)
        for rate in rates
    ]
