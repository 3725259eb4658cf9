"""Sampling: OpenTelemetry's standard variables decide which traces are kept, and of bulk work only a part is kept."""

import math
import os
from collections.abc import Sequence
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult, TraceIdRatioBased
from opentelemetry.trace import Link, SpanKind, TraceState

from lensmesh_chassis.settings_error import SettingsError
from lensmesh_chassis.telemetry.spans import LANE

BULK_VARIABLE = "LENSMESH_TRACES_BULK_RATIO"
DEFAULT_BULK_RATIO = 0.05

# Streams of items are bulk work unless their owner says otherwise.
_BULK_METHODS = frozenset({"IngestStream", "EncodeStream", "CaptionStream"})


def bulk_ratio() -> float:
    """Return the share of bulk traces to keep, 0 to 1. Raises SettingsError for anything else."""
    text = os.environ.get(BULK_VARIABLE, "").strip()
    if not text:
        return DEFAULT_BULK_RATIO
    try:
        ratio = float(text)
    except ValueError:
        ratio = math.nan
    if not 0.0 <= ratio <= 1.0:
        raise SettingsError(f"{BULK_VARIABLE} is {text!r}: write a number from 0 (none) to 1 (all)")
    return ratio


class MeshSampler(Sampler):
    """The standard sampler, with a second decision for a trace that begins with bulk work.

    Only the first span of a trace is judged by what it is; all others follow it, as the standard samplers do. A
    statement to the database that belongs to no call (a check whether the database is still there) begins no trace.
    """

    def __init__(self, standard: Sampler, ratio: float | None = None) -> None:
        self._standard = standard
        self._bulk = TraceIdRatioBased(bulk_ratio() if ratio is None else ratio)

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Any = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        asked = (parent_context, trace_id, name, kind, attributes, links)
        if not trace.get_current_span(parent_context).get_span_context().is_valid:
            attributes = attributes or {}
            if "db.system" in attributes or "db.system.name" in attributes:
                return SamplingResult(Decision.DROP)
            lane = attributes.get(LANE)
            is_bulk = lane == "bulk" or (lane is None and attributes.get("rpc.method") in _BULK_METHODS)
            if is_bulk and self._bulk.should_sample(*asked).decision is Decision.DROP:
                return SamplingResult(Decision.DROP)
        return self._standard.should_sample(*asked)

    def get_description(self) -> str:
        return f"MeshSampler({self._standard.get_description()}, bulk {self._bulk.get_description()})"
