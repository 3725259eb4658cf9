"""Batch calls: a list cut to what the services take, done by whoever can, and joined again in order."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from google.rpc import status_pb2

from lensmesh_chassis.errors import InternalFault, InvalidInput, LensmeshError
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import from_status, to_status
from lensmesh_chassis.telemetry import spans
from router_svc.cut import CallLimits, cut
from router_svc.model_directory import ModelTargets
from router_svc.upstreams.errors import ReplicaLost, is_away, is_busy, repath
from router_svc.upstreams.pool import Patience, UpstreamPool
from router_svc.upstreams.suspects import ItemSuspects
from router_svc.upstreams.together import together

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


@dataclass(slots=True)
class _Work(Generic[S, T, R]):
    """One list on its way, and what became of its items so far."""

    items: Sequence[T]
    find: Callable[[], Awaitable[ModelTargets]]
    send: Callable[[S, Sequence[T], float], Awaitable[Sequence[R]]]
    path_of: Callable[[int], str]
    deadline: float | None
    results: dict[int, R] = field(default_factory=dict)
    last: dict[int, R] = field(default_factory=dict)
    """Errors of items that may go better later: kept, should patience end."""
    losses: int = 0
    """Calls under which a replica ended."""

    @property
    def left(self) -> list[int]:
        return [index for index in range(len(self.items)) if index not in self.results]


class BatchCalls(Generic[S, T, R]):
    """One kind of batch call to one kind of service.

    What a replica held when it ended is not handed to the next one as it is: see Suspects.
    """

    def __init__(
        self,
        pool: UpstreamPool[S],
        suspects: ItemSuspects,
        *,
        size_of: Callable[[T], int],
        content_of: Callable[[T], bytes],
        refuse: Callable[[status_pb2.Status], R],
        blame: Callable[[str], LensmeshError],
    ) -> None:
        """`content_of` tells items apart; `blame` makes the error, by its path, of an item that ends replicas."""
        self._pool = pool
        self._suspects = suspects
        self._size_of = size_of
        self._content_of = content_of
        self._refuse = refuse
        self._blame = blame

    async def run(
        self,
        items: Sequence[T],
        *,
        find: Callable[[], Awaitable[ModelTargets]],
        send: Callable[[S, Sequence[T], float], Awaitable[Sequence[R]]],
        path_of: Callable[[int], str],
        patience: Patience = Patience(),  # noqa: B008 - frozen
        deadline: float | None = None,
    ) -> list[R]:
        """One result per item, in order. What nobody foresaw fails its item where it is one item's, else its call's.

        `find` tells who serves, `send` makes one call, `path_of` names an item in the caller's request. An item that
        nobody could take now is tried again while patience lasts, together with its like. Raises what failed the whole:
        the first call that was refused or that nobody took.
        """
        work: _Work[S, T, R] = _Work(items, find, send, path_of, deadline)
        while True:
            losses = work.losses
            try:
                await self._pool.patiently(lambda: self._attempt(work), patience, deadline=deadline)
            except LensmeshError as error:
                if is_away(error) and work.losses > losses:
                    # A replica came and went meanwhile: patience is for the time in which none is there.
                    continue
                # Errors of single items stay theirs; what failed a call fails all.
                if any(index not in work.last for index in work.left):
                    raise
            return [work.results[index] if index in work.results else work.last[index] for index in range(len(items))]

    async def _attempt(self, work: _Work[S, T, R]) -> None:
        serving = await work.find()
        limits = CallLimits(serving.limits.max_items, serving.limits.max_bytes - ENVELOPE_BYTES)
        tried = work.left
        fitting: list[int] = []
        for index in tried:
            try:
                if self._size_of(work.items[index]) > limits.max_bytes:
                    raise _too_large(work.path_of(index), serving.limits.max_bytes)
                if not self._most_with(work.items[index]):
                    fitting.append(index)
            except Exception as error:  # noqa: BLE001 - an item fails alone; to_status logs what nobody foresaw
                work.results[index] = self._refuse(to_status(error))
        self._refuse_known(work)
        fitting = [index for index in fitting if index not in work.results]
        runs = cut(fitting, limits, lambda index: self._size_of(work.items[index]))
        await together([self._call(work, [fitting[position] for position in run], serving) for run in runs])
        if any(index not in work.results for index in tried):
            async with self._suspects.one_at_a_time(work.deadline):
                while group := self._next_suspects(work, limits):
                    await self._call(work, group, serving)
        refused: list[LensmeshError] = []
        for index in tried:
            if later := _later(work.results[index]):
                work.last[index] = work.results.pop(index)
                refused.append(later)
        if refused:
            raise refused[0]

    def _next_suspects(self, work: _Work[S, T, R], limits: CallLimits) -> list[int]:
        """The next items to be sent together of those that were in a lost call; nothing where all are answered."""
        self._refuse_known(work)
        group: list[int] = []
        for index in work.left:
            # One that somebody else's call has cleared meanwhile goes along.
            most = self._most_with(work.items[index]) or limits.max_items
            if len(group) >= min(most, limits.max_items):
                break
            together_bytes = sum(self._size_of(work.items[one]) for one in (*group, index))
            if group and together_bytes > limits.max_bytes:
                break
            group.append(index)
            if len(group) >= most:
                break
        return group

    def _most_with(self, item: T) -> int:
        # protobuf copies the bytes of an image each time they are looked at.
        return self._suspects.most_with(self._content_of(item)) if self._suspects else 0

    def _refuse_known(self, work: _Work[S, T, R]) -> None:
        for index in work.left if self._suspects else ():
            if self._suspects.refuses(self._content_of(work.items[index])):
                work.results[index] = self._refuse(to_status(self._blame(work.path_of(index))))

    async def _call(self, work: _Work[S, T, R], indexes: Sequence[int], serving: ModelTargets) -> None:
        def path(position: int) -> str:
            return work.path_of(indexes[position]) if position < len(indexes) else work.path_of(indexes[-1])

        batch = [work.items[index] for index in indexes]
        try:
            with spans.carrying_some(indexes):
                answers = await self._pool.call(
                    lambda stub, timeout_s: work.send(stub, batch, timeout_s),
                    serving.targets,
                    deadline=work.deadline,
                    weight=len(batch),
                    loses_once=True,
                )
        except ReplicaLost:
            work.losses += 1
            contents = [self._content_of(item) for item in batch]
            others = len(batch) == 1 and await self._pool.lost_others(self._suspects.lost_at(contents[0]))
            self._suspects.lost(contents, others=others)
            return
        except LensmeshError as error:
            raise repath(error, path) from error
        except Exception as error:  # noqa: BLE001 - a fault of ours fails this call's items; to_status logs it
            work.results.update((index, self._refuse(to_status(error))) for index in indexes)
            return
        if len(answers) != len(batch):
            raise InternalFault(
                Reason.INTERNAL, f"a {self._pool.kind.noun} answered {len(answers)} of {len(batch)} items"
            )
        if self._suspects:
            self._suspects.answered([self._content_of(item) for item in batch])
        for index, answer in zip(indexes, answers, strict=True):
            work.results[index] = self._led_back(answer, path)

    def _led_back(self, result: R, path: Callable[[int], str]) -> R:
        try:
            if result.HasField("error"):
                result.error.CopyFrom(to_status(repath(from_status(result.error), path)))
        except Exception as error:  # noqa: BLE001 - an item fails alone; to_status logs what nobody foresaw
            return self._refuse(to_status(error))
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
