"""Batch calls: a list cut to what the services take, done by whoever can, and joined again in order."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from google.protobuf.message import Message
from google.rpc import status_pb2

from lensmesh_chassis.errors import InternalFault, InvalidInput, LensmeshError
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import from_status, to_status
from lensmesh_chassis.telemetry import spans
from router_svc.call_scope import NO_LIMIT, CallScope
from router_svc.cut import CallLimits, cut
from router_svc.model_directory import ModelTargets
from router_svc.upstreams.errors import ReplicaLost, is_away, is_busy, repath
from router_svc.upstreams.methods import UpstreamMethod
from router_svc.upstreams.pool import UpstreamPool
from router_svc.upstreams.suspects import ItemSuspects
from router_svc.upstreams.together import together

T = TypeVar("T")
Options = TypeVar("Options", bound=Message)

# What a message holds beside its items: options, tags and lengths.
ENVELOPE_BYTES = 4096


class Result(Protocol):
    """An item's answer in any batch contract: an outcome that may be an error."""

    @property
    def error(self) -> status_pb2.Status: ...

    def HasField(self, field_name: Any) -> bool: ...


R = TypeVar("R", bound=Result)


@dataclass(slots=True)
class _Work(Generic[T, Options, R]):
    """A list on its way, and what became of its items so far."""

    items: Sequence[T]
    given: Options
    """The options as the caller gave them."""
    options: Options
    """The same, with what is settled of them: said to every service."""
    scope: CallScope
    options_bytes: int
    """About how many bytes the options take in each call."""
    results: dict[int, R] = field(default_factory=dict)
    last: dict[int, R] = field(default_factory=dict)
    """Errors of items that may go better later: kept, should patience end."""
    losses: int = 0
    """Calls under which a replica ended."""

    @property
    def left(self) -> list[int]:
        return [index for index in range(len(self.items)) if index not in self.results]

    @property
    def is_answered(self) -> bool:
        """True where each item has a result, of this try or of an earlier one."""
        return all(index in self.last for index in self.left)

    @property
    def answers(self) -> list[R]:
        return [self.results[index] if index in self.results else self.last[index] for index in range(len(self.items))]

    def set_aside(self, tried: Sequence[int]) -> None:
        """Take back the errors that may go better later. Raises the first of them."""
        refused: list[LensmeshError] = []
        for index in tried:
            if later := _later(self.results[index]):
                self.last[index] = self.results.pop(index)
                refused.append(later)
        if refused:
            raise refused[0]


class BatchCalls(ABC, Generic[T, Options, R]):
    """A kind of batch call to one kind of service.

    What a replica held when it ended is not handed to the next one as it is: see ItemSuspects.
    """

    def __init__(
        self,
        pool: UpstreamPool,
        suspects: ItemSuspects,
        method: UpstreamMethod[Any, Any],
        result: Callable[..., R],
    ) -> None:
        """Call `method`, which answers `results`, one for each item; `result` makes one of an `error`."""
        self._pool = pool
        self._suspects = suspects
        self._method = method
        self._result = result

    @abstractmethod
    async def find(self, given: Options, options: Options) -> ModelTargets:
        """Tell who serves, and settle in `options` what is left open in `given`, which the caller sent."""

    @abstractmethod
    def request(self, items: Sequence[T], options: Options) -> Message | bytes:
        """Make the request of one call: a message, or what it is serialized to."""

    @abstractmethod
    def size_of(self, item: T) -> int:
        """Return about how many bytes an item takes in a message."""

    @abstractmethod
    def content_of(self, item: T) -> bytes:
        """Return what tells an item from any other."""

    @abstractmethod
    def blame(self, path: str) -> LensmeshError:
        """Make the error, by its path, of an item that ends replicas."""

    async def run(self, items: Sequence[T], options: Options, scope: CallScope = NO_LIMIT) -> list[R]:
        """Return one result per item, in order. `options` stay as they are; the scope is at the list of items.

        An item that nobody could take now is tried again while patience lasts, together with its like. What nobody
        foresaw fails its item where it is one item's, else its call's. Raises what failed the whole: the first call
        that was refused or that nobody took.
        """
        work: _Work[T, Options, R] = _Work(items, options, type(options)(), scope, options.ByteSize())
        work.options.CopyFrom(options)
        waiting, losses = self._pool.waiting(scope), 0
        while True:
            try:
                serving = await self.find(work.given, work.options)
                tried = work.left
                await together([self._send(work, indexes, serving) for indexes in self._cut(work, serving)])
                await self._send_suspects(work, serving)
                work.set_aside(tried)
                return work.answers
            except LensmeshError as error:
                if await waiting.after(error):
                    continue
                if is_away(error) and work.losses > losses:
                    # A replica came and went meanwhile: patience is for the time in which none is there.
                    waiting, losses = self._pool.waiting(scope), work.losses
                    continue
                # Errors of single items stay theirs; what failed a call fails all.
                if not work.is_answered:
                    raise
                return work.answers

    def _cut(self, work: _Work[T, Options, R], serving: ModelTargets) -> Iterator[list[int]]:
        """Cut what is left into calls, without suspects; what no call takes has its error then."""
        limits = self._call_limits(work, serving)
        fitting: dict[int, int] = {}
        for index in work.left:
            try:
                size = self.size_of(work.items[index])
                if size > limits.max_bytes:
                    raise _too_large(work.scope.path(index), serving.limits.max_bytes)
                if not self._most_with(work.items[index]):
                    fitting[index] = size
            except Exception as error:  # noqa: BLE001 - an item fails alone; to_status logs what nobody foresaw
                work.results[index] = self._refuse(error)
        self._refuse_known(work)
        indexes = [index for index in fitting if index not in work.results]
        for run in cut([fitting[index] for index in indexes], limits):
            yield [indexes[position] for position in run]

    async def _send_suspects(self, work: _Work[T, Options, R], serving: ModelTargets) -> None:
        """Send what was in a lost call, one call at a time."""
        if not work.left:
            return
        async with self._suspects.one_at_a_time(work.scope):
            while group := self._next_suspects(work, self._call_limits(work, serving)):
                await self._send(work, group, serving)

    def _next_suspects(self, work: _Work[T, Options, R], limits: CallLimits) -> list[int]:
        """Choose the next items to be sent together of those in a lost call; none where all are answered."""
        self._refuse_known(work)
        group: list[int] = []
        for index in work.left:
            # One that somebody else's call has cleared meanwhile goes along.
            most = self._most_with(work.items[index]) or limits.max_items
            if len(group) >= min(most, limits.max_items):
                break
            together_bytes = sum(self.size_of(work.items[one]) for one in (*group, index))
            if group and together_bytes > limits.max_bytes:
                break
            group.append(index)
            if len(group) >= most:
                break
        return group

    def _call_limits(self, work: _Work[T, Options, R], serving: ModelTargets) -> CallLimits:
        """Return what the items of one call may be. Raises MESSAGE_TOO_LARGE where the options leave them no room."""
        room = serving.limits.max_bytes - ENVELOPE_BYTES - work.options_bytes
        if room <= 0:
            raise InvalidInput(
                Reason.MESSAGE_TOO_LARGE,
                f"what goes with every item has {work.options_bytes} bytes, and the service behind takes "
                f"{serving.limits.max_bytes} in one message: send fewer or shorter labels",
                metadata={"size_bytes": work.options_bytes, "limit_bytes": serving.limits.max_bytes},
            )
        return CallLimits(serving.limits.max_items, room)

    def _most_with(self, item: T) -> int:
        return self._suspects.most_with(self.content_of(item)) if self._suspects else 0

    def _refuse_known(self, work: _Work[T, Options, R]) -> None:
        for index in work.left if self._suspects else ():
            if self._suspects.refuses(self.content_of(work.items[index])):
                work.results[index] = self._refuse(self.blame(work.scope.path(index)))

    async def _send(self, work: _Work[T, Options, R], indexes: Sequence[int], serving: ModelTargets) -> None:
        """Make one call, and note what became of its items."""
        batch = [work.items[index] for index in indexes]
        paths = [work.scope.path(index) for index in indexes]
        try:
            with spans.carrying_some(indexes):
                reply = await self._pool.call(
                    self._method,
                    self.request(batch, work.options),
                    work.scope,
                    targets=serving.targets,
                    weight=len(batch),
                    loses_once=True,
                )
        except ReplicaLost:
            work.losses += 1
            contents = [self.content_of(item) for item in batch]
            others = len(batch) == 1 and await self._pool.lost_others(self._suspects.lost_at(contents[0]))
            self._suspects.lost(contents, others=others)
            return
        except LensmeshError as error:
            raise repath(error, paths) from error
        except Exception as error:  # noqa: BLE001 - a fault of ours fails this call's items; to_status logs it
            work.results.update((index, self._refuse(error)) for index in indexes)
            return
        if len(reply.results) != len(batch):
            raise InternalFault(
                Reason.INTERNAL, f"a {self._pool.kind.noun} answered {len(reply.results)} of {len(batch)} items"
            )
        if self._suspects:
            self._suspects.answered([self.content_of(item) for item in batch])
        for index, result in zip(indexes, reply.results, strict=True):
            work.results[index] = self._led_back(result, paths)

    def _led_back(self, result: R, paths: Sequence[str]) -> R:
        try:
            if result.HasField("error"):
                result.error.CopyFrom(to_status(repath(from_status(result.error), paths)))
        except Exception as error:  # noqa: BLE001 - an item fails alone; to_status logs what nobody foresaw
            return self._refuse(error)
        return result

    def _refuse(self, error: Exception) -> R:
        return self._result(error=to_status(error))


def failure_of(result: Result) -> LensmeshError | None:
    """Tell why an item has no outcome; None where it has one."""
    return from_status(result.error) if result.HasField("error") else None


def _later(result: Result) -> LensmeshError | None:
    """Return the error of an item that another replica, or a later try, may still do."""
    error = failure_of(result)
    return error if error is not None and (is_busy(error) or is_away(error)) else None


def _too_large(path: str, max_bytes: int) -> InvalidInput:
    return InvalidInput(
        Reason.MESSAGE_TOO_LARGE,
        f"{path} alone exceeds the {max_bytes} bytes that the service behind takes in one message: send a smaller one",
        field=path,
        metadata={"max_message_bytes": max_bytes},
    )
