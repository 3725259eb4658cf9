"""A text that is sent while a bulk stream saturates the device: how long it takes, and the lag of the event loop."""

from __future__ import annotations

from collections.abc import Callable

from bench.measure import Results, line, read_figures
from bench.stage import Stage
from lensmesh_cli.top.looks import LookDifference, look

ALONE, BESIDE = "text-alone", "text-beside-bulk"


async def waiting(stage: Stage, results: Results, say: Callable[[str], None]) -> None:
    """Measure rounds of texts alone and beside bulk images, into `results`.

    `extra["waiting"]` is the p99 beside bulk, divided by the sum of one bulk batch's time and one and a half times the
    p99 alone. `extra["lag_ms"]` is the p99 of the Encoder's event loop lag meanwhile, in milliseconds, from its own
    metrics.
    """
    options = stage.options
    encoder = await stage.encoder()
    caller = await stage.caller(encoder)
    results.titles |= {ALONE: "one text at a time, nothing else", BESIDE: "one text at a time beside a bulk stream"}
    results.extra |= {"waiting": [], "lag_ms": []}
    for _ in range(options.rounds):
        times = {"warm": options.warm, "timeout_s": 600 + 10 * options.seconds}
        alone = await caller.ask("waiting", bulk=False, seconds=options.seconds, **times)
        before = await look([encoder.metrics])
        # A text waits for a whole batch there: it takes longer to have enough of them.
        beside = await caller.ask("waiting", bulk=True, seconds=2 * options.seconds, **times)
        after = await look([encoder.metrics])
        found = {ALONE: read_figures(alone["texts"]), BESIDE: read_figures(beside["texts"])}
        bulk = read_figures(beside["bulk"])
        for key, figures in found.items():
            results.rounds.setdefault(key, []).append(figures)
            say(line(key, figures))
        say(line("bulk", bulk))
        quick, slow = found[ALONE].latency_ms, found[BESIDE].latency_ms
        if quick and slow and bulk.split_ms:
            results.extra["waiting"].append(slow.p99 / (bulk.split_ms.forward + 1.5 * quick.p99))
        lag = LookDifference(list(zip(before, after, strict=True))).quantile(0.99, "lensmesh_event_loop_lag_seconds")
        if lag is not None:
            results.extra["lag_ms"].append(1000 * lag)
