"""Captions of BLIP-base: transformers' generate(), the captioner's own loop in process, and CaptionImages over gRPC."""

from __future__ import annotations

from bench.cases.images import of
from bench.measure import Case
from bench.stage import Stage
from lensmesh_cli.load.figures import LoadFigures

BATCH, TOKENS = 16, 20
_SMALL = 4
# A batch takes seconds; the first ones, of what was ready, are smaller than those of the steady state.
WARM_S, COUNTED_S = 45.0, 75.0


async def captions(stage: Stage) -> list[Case]:
    """Make the cases under the keys that the figures name, in the order of bench/captions.py's cases."""
    tiny, place = stage.options.smoke, stage.folder / "captions"
    place.mkdir()
    batch, tokens = (_SMALL, _SMALL) if tiny else (BATCH, TOKENS)
    worker = await stage.worker(
        "captions",
        "bench.workers.captions",
        *(str(stage.images), str(place), str(batch), str(tokens), *(["--tiny"] if tiny else [])),
    )
    documented, batched, *ours = await worker.ask("titles")
    keys = {documented: "transformers-documented", batched: "transformers-equal"}
    keys |= {title: "captions-openvino" if "openvino" in title else "captions-torch" for title in ours}
    cases = [of(worker, key, title, "captions", case=title) for title, key in keys.items()]
    service = await stage.captioner(MODEL=f"local-dir:{place / 'blip'}", MAX_BATCH=str(batch), MAX_WAIT_SECONDS="600")
    # Two batches of callers: one is described while the next one comes in.
    asked = {"batch": 1, "tokens": tokens, "concurrency": 2 * batch}
    title = f"CaptionImages of 1, {2 * batch} callers"
    served = of(await stage.caller(service), "captions", title, "captions", **asked)
    return [*cases, served if tiny else _lasting(served)]


def _lasting(case: Case) -> Case:
    async def measure(seconds: float, warm: float) -> LoadFigures:
        return await case.measure(max(seconds, COUNTED_S), max(warm, WARM_S))

    return Case(case.key, case.title, measure)
