"""Steps that every call of a model service has: its limits, its lane and deadline, and its results in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, TypeVar

from google.protobuf.message import Message
from opentelemetry import trace

from lensmesh.common.v1 import common_pb2
from lensmesh_chassis.images.inputs import wants_bulk
from lensmesh_chassis.limits import check_items
from lensmesh_chassis.telemetry import spans
from lensmesh_inference.batching.batcher import Lane
from lensmesh_inference.items import Completed, EngineItem, Failed, ItemOutcome
from lensmesh_inference.registry import ServedModel
from lensmesh_serving.settings import ModelServiceSettings

P = ParamSpec("P")
R = TypeVar("R")
Value = TypeVar("Value")
E = TypeVar("E", bound=ServedModel[Any, Any, Any])


@dataclass(frozen=True, kw_only=True)
class ModelCall(Generic[E]):
    """Terms of every item of one call or stream: which model, in which lane, until when.

    `deadline` is a time of the event loop's clock. A service adds to it what its options come to.
    """

    served: E
    lane: Lane
    deadline: float | None = None

    @property
    def attributes(self) -> Mapping[str, str]:
        """Attributes that a span tells of it."""
        return {spans.MODEL: self.served.model.facts.name, spans.LANE: self.lane.name.lower()}

    async def run_batch(self, items: Sequence[EngineItem[Any, Value] | BaseException]) -> list[ItemOutcome[Value]]:
        """Answer the items of a call, as `ModelEngine.run_batch` does, and tell of them on the call's span."""
        span, attributes = trace.get_current_span(), None
        if span.is_recording():
            attributes = self.attributes
            span.set_attributes({**attributes, spans.BATCH_SIZE: len(items)})
        return await self.served.engine.run_batch(items, lane=self.lane, deadline=self.deadline, attributes=attributes)

    async def run_some(
        self,
        items: Sequence[EngineItem[Any, Value] | BaseException],
        tell: Callable[[int, ItemOutcome[Value]], None],
        place_of: Callable[[int], Mapping[str, Any]],
    ) -> None:
        """Answer some items of a stream, as `ModelEngine.run_some` does.

        `place_of` returns what a span tells of where an item stands in its stream.
        """
        await self.served.engine.run_some(
            items,
            tell,
            lane=self.lane,
            deadline=self.deadline,
            attributes_of=lambda index: {**place_of(index), **self.attributes},
        )


def check_batch(request: Message, field: str, settings: ModelServiceSettings) -> None:
    """Hold a request to the limit of items; `field` names its list of items.

    Raises ``InvalidInput`` with reason NO_ITEMS or TOO_MANY_ITEMS. The chassis has refused what is too large before.
    """
    check_items(len(getattr(request, field)), settings.max_items, field)


def lane_of(priority: common_pb2.Priority.ValueType, *, streamed: bool, field: str = "options.priority") -> Lane:
    """Return the lane that a request's options ask for; unspecified means bulk for streams, interactive for calls.

    Raises ``InvalidInput`` with reason OPTION_INVALID, naming `field`, for a number that the contract does not know.
    """
    return Lane.BULK if wants_bulk(priority, streamed=streamed, field=field) else Lane.INTERACTIVE


def deadline_of(context: Any) -> float | None:
    """Return the caller's deadline as a time of the event loop's clock; None where it set none."""
    left = context.time_remaining()
    return None if left is None else asyncio.get_running_loop().time() + left


def or_error(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R | Exception:
    """Call a function; what it raises stands for its result, as `ModelCall.run_batch` takes it."""
    try:
        return function(*args, **kwargs)
    except Exception as error:  # noqa: BLE001 - an item fails alone; to_status logs what is not meant for callers
        return error


def write_outcome(
    outcome: ItemOutcome[Value],
    write: Callable[[Completed[Value]], R],
    write_error: Callable[[Failed], R],
) -> R:
    """Write the result of one item. One that cannot be written fails alone."""
    if isinstance(outcome, Failed):
        return write_error(outcome)
    try:
        return write(outcome)
    except Exception as error:  # noqa: BLE001 - as above
        return write_error(Failed(error, outcome.timing.total_us))


def write_outcomes(
    outcomes: Sequence[ItemOutcome[Value]],
    write: Callable[[Completed[Value]], R],
    write_error: Callable[[Failed], R],
) -> list[R]:
    """Write the results of a call, in order. A result that cannot be written fails alone."""
    return [write_outcome(outcome, write, write_error) for outcome in outcomes]
