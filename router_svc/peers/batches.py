"""Batch calls: a list cut to what the services take, done by whoever can, and joined again in order."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

from google.rpc import status_pb2

from lensmesh_chassis.errors import InternalFault, InvalidInput, LensmeshError
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.status import from_status, to_status
from lensmesh_chassis.telemetry import spans
from router_svc.cut import CallLimits, cut
from router_svc.directory import Serving
from router_svc.peers.faults import is_away, is_busy, repath
from router_svc.peers.fleet import Fleet, Patience
from router_svc.peers.together import together

S = TypeVar("S")
T = TypeVar("T")
R_co = TypeVar("R_co", covariant=True)

# What a message holds beside its items: options, tags and lengths.
ENVELOPE_BYTES = 4096


class Result(Protocol):
    """One item's answer in any batch contract: an outcome that may be an error."""

    @property
    def error(self) -> status_pb2.Status: ...

    def HasField(self, field_name: Any) -> bool: ...


R = TypeVar("R", bound=Result)


class BatchCalls(Generic[S, T, R]):
    """One kind of batch call to one kind of service."""

    def __init__(
        self,
        fleet: Fleet[S],
        *,
        size_of: Callable[[T], int],
        refuse: Callable[[status_pb2.Status], R],
    ) -> None:
        self._fleet = fleet
        self._size_of = size_of
        self._refuse = refuse

    async def run(
        self,
        items: Sequence[T],
        *,
        find: Callable[[], Awaitable[Serving]],
        send: Callable[[S, Sequence[T], float], Awaitable[Sequence[R]]],
        path_of: Callable[[int], str],
        patience: Patience = Patience(),  # noqa: B008 - frozen
        deadline: float | None = None,
    ) -> list[R]:
        """One result per item, in order.

        `find` tells who serves, `send` makes one call, `path_of` names an item in the caller's request. An item that
        nobody could take now is tried again while patience lasts, together with its like. Raises what failed the whole:
        the first call that was refused or that nobody took.
        """
        results: dict[int, R] = {}

        async def attempt() -> None:
            left = [index for index in range(len(items)) if index not in results]
            refused: list[LensmeshError] = []
            serving = await find()
            await self._run_once(left, items, serving, send, path_of, deadline, results)
            for index in left:
                if later := _later(results[index]):
                    # Kept, should patience end here.
                    last[index] = results.pop(index)
                    refused.append(later)
            if refused:
                raise refused[0]

        last: dict[int, R] = {}
        try:
            await self._fleet.patiently(attempt, patience, deadline=deadline)
        except LensmeshError:
            # Errors of single items stay theirs; what failed a call fails all.
            if any(index not in results and index not in last for index in range(len(items))):
                raise
        return [results[index] if index in results else last[index] for index in range(len(items))]

    async def _run_once(
        self,
        left: Sequence[int],
        items: Sequence[T],
        serving: Serving,
        send: Callable[[S, Sequence[T], float], Awaitable[Sequence[R]]],
        path_of: Callable[[int], str],
        deadline: float | None,
        results: dict[int, R],
    ) -> None:
        limits = CallLimits(serving.limits.max_items, serving.limits.max_bytes - ENVELOPE_BYTES)
        fitting: list[int] = []
        for index in left:
            if self._size_of(items[index]) <= limits.max_bytes:
                fitting.append(index)
            else:
                results[index] = self._refuse(to_status(_too_large(path_of(index), serving.limits.max_bytes)))

        async def one_call(indexes: Sequence[int]) -> None:
            def path(position: int) -> str:
                return path_of(indexes[position]) if position < len(indexes) else path_of(indexes[-1])

            batch = [items[index] for index in indexes]
            try:
                with spans.carrying_some(indexes):
                    answers = await self._fleet.call(
                        lambda stub, timeout_s: send(stub, batch, timeout_s),
                        serving.targets,
                        deadline=deadline,
                        weight=len(batch),
                    )
            except LensmeshError as error:
                raise repath(error, path) from error
            if len(answers) != len(batch):
                raise InternalFault(
                    Reason.INTERNAL, f"a {self._fleet.kind.noun} answered {len(answers)} of {len(batch)} items"
                )
            for index, answer in zip(indexes, answers, strict=True):
                results[index] = self._led_back(answer, path)

        runs = cut(fitting, limits, lambda index: self._size_of(items[index]))
        await together([one_call([fitting[position] for position in run]) for run in runs])

    def _led_back(self, result: R, path: Callable[[int], str]) -> R:
        if not result.HasField("error"):
            return result
        result.error.CopyFrom(to_status(repath(from_status(result.error), path)))
        return result


def failure_of(result: Result) -> LensmeshError | None:
    """Why an item has no outcome; None where it has one."""
    return from_status(result.error) if result.HasField("error") else None


def _later(result: Result) -> LensmeshError | None:
    """The error of an item that another replica, or a later try, may still do."""
    error = failure_of(result)
    return error if error is not None and (is_busy(error) or is_away(error)) else None


def _too_large(path: str, max_bytes: int) -> InvalidInput:
    return InvalidInput(
        Reason.MESSAGE_TOO_LARGE,
        f"{path} alone exceeds the {max_bytes} bytes that the service behind takes in one message: send a smaller one",
        field=path,
        metadata={"max_message_bytes": max_bytes},
    )
