"""The figures that the engine has to reach, as ratios within one run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from bench.measure import Results, Spread


@dataclass(frozen=True, slots=True)
class Target:
    """A figure to reach: what it is, its bound, and how it is computed from the results."""

    what: str
    bound: float
    measure: Callable[[Results], Spread | None]
    at: Literal["least", "most"] = "least"
    needs: str = ""
    """The feature that the machine needs to reach it. On other machines it is measured and shown all the same."""
    unit: str = "x"
    digits: int = 2


@dataclass(frozen=True, slots=True)
class Reached:
    """The result for one target. `reached` is None where nothing was measured."""

    what: str
    wanted: str
    measured: str
    spread: Spread | None
    reached: bool | None
    note: str = ""


def ratio(key: str, base: str) -> Callable[[Results], Spread | None]:
    """Return a function that divides one case's rates by another's."""
    return lambda results: results.ratio(key, base)


def over(name: str) -> Callable[[Results], Spread | None]:
    """Return a function that reads a figure which a case computed itself."""
    return lambda results: Spread.of(results.extra[name]) if results.extra.get(name) else None


TARGETS = (
    Target("EncodeStream against the in-process limit", 0.92, ratio("stream", "limit")),
    Target("EncodeStream through the Router against the in-process limit", 0.88, ratio("router-stream", "limit")),
    Target("EncodeStream against open_clip, fp32, Pillow, one by one", 4.5, ratio("stream", "open_clip"), needs="bf16"),
    Target("EncodeStream with int8 against the same", 8.0, ratio("int8-stream", "open_clip-int8"), needs="bf16"),
    Target("lowest cosine of int8 to float32, photographs", 0.999, over("int8_cosine"), unit="", digits=4),
    Target("recall@1 of held-out scenes that int8 loses", 0.002, over("int8_lost"), at="most", unit="", digits=4),
    Target("EncodeStream against Triton as documented", 4.0, ratio("stream", "triton"), needs="bf16"),
    Target("EncodeStream against LitServe as documented", 4.0, ratio("stream", "litserve"), needs="bf16"),
    Target("EncodeStream against Triton with our backend and precision", 1.15, ratio("stream", "triton-equal")),
    Target("EncodeStream against LitServe with our backend and precision", 1.15, ratio("stream", "litserve-equal")),
    Target("one short text, torch, against open_clip", 1.6, ratio("torch-text-1", "open_clip-text-1")),
    Target("one short text, OpenVINO, against open_clip", 2.5, ratio("openvino-text-1", "open_clip-text-1")),
    Target("16 short texts, torch, against open_clip", 4.0, ratio("torch-text-16", "open_clip-text-16")),
    Target("16 short texts, OpenVINO, against open_clip", 4.0, ratio("openvino-text-16", "open_clip-text-16")),
    Target(
        "captions against transformers as documented (fp32, one by one)",
        6.0,
        ratio("captions", "transformers-documented"),
    ),
    Target("captions, torch, at equal precision and batch", 0.95, ratio("captions-torch", "transformers-equal")),
    Target("captions, OpenVINO, at equal precision and batch", 1.2, ratio("captions-openvino", "transformers-equal")),
    Target(
        "p99 of a text beside a bulk stream, of one bulk batch + 1.5x its p99 alone", 1.0, over("waiting"), at="most"
    ),
    Target("p99 of the Encoder's event loop lag under full load", 20.0, over("lag_ms"), at="most", unit=" ms"),
    Target("images sent in calls for 60 s, of what the device does", 10.0, over("flood_times")),
    Target("memory after warm-up, 60 s under 10x what the device does", 1.05, over("flood_memory"), at="most"),
    Target("queue bytes after warm-up, likewise", 1.05, over("flood_queue"), at="most"),
)


def check(results: Results, *, has_bf16: bool = True, targets: Sequence[Target] = TARGETS) -> list[Reached]:
    """Compare every target with what was measured. The median decides."""
    rows = []
    for target in targets:
        spread = target.measure(results)
        wanted = f"at {target.at} {target.bound:g}{target.unit}"
        if spread is None:
            rows.append(Reached(target.what, wanted, "not measured", None, None))
            continue
        reached = spread.median >= target.bound if target.at == "least" else spread.median <= target.bound
        note = f"holds where the processor has {target.needs}" if target.needs == "bf16" and not has_bf16 else ""
        rows.append(Reached(target.what, wanted, f"{spread:.{target.digits}f}", spread, reached, note))
    return rows


def table(rows: list[Reached]) -> str:
    """Return the figures as a Markdown table."""
    lines = ["| what | wanted | min / median / max | reached |", "|---|---|---|---|"]
    for row in rows:
        said = "" if row.reached is None else "yes" if row.reached else "**no**"
        lines.append(f"| {row.what} | {row.wanted} | {row.measured} | {said}{f' ({row.note})' if row.note else ''} |")
    return "\n".join(lines)
