"""Parts that the proxies of both model services share: checks, and one stream whose items travel in batch calls."""

import functools
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from google.protobuf.message import Message
from opentelemetry import trace

from lensmesh.common.v1 import common_pb2
from lensmesh_chassis.limits import check_items
from lensmesh_chassis.process.server import Runtime
from lensmesh_chassis.rpc.status import to_status
from lensmesh_chassis.telemetry import spans
from router_svc.call_scope import CallScope, Patience
from router_svc.limits import JoinedLimits
from router_svc.micro_batcher import MicroBatcher
from router_svc.model_directory import ModelDirectory
from router_svc.settings import RouterSettings
from router_svc.stream import StreamLimits, answers, first_message
from router_svc.upstreams.batch_call import BatchCalls, failure_of
from router_svc.upstreams.images import PackedImage
from router_svc.upstreams.pool import UpstreamPool

O_contra = TypeVar("O_contra", contravariant=True)


class Models(Protocol[O_contra]):
    """All services of one kind: Encoders or Captioners."""

    pool: UpstreamPool

    async def settle(self, options: O_contra) -> None:
        """Settle which model the options mean. Raises what fails a whole stream before an item of it is read."""
        ...


M = TypeVar("M", bound=Models[Any])


@dataclass(frozen=True, slots=True)
class ModelStreamItem:
    """An item of a stream: what a model is asked, or why it cannot be."""

    ref: str
    field: str = ""
    """Name of the item's field that holds what the model takes."""
    content: PackedImage | str = ""
    size: int = 0
    error: Exception | None = None


class ModelStream:
    """A bulk stream of a model service: its items by the field that they are given in, gathered into batch calls."""

    step: str
    """Name of an item's time in a batch call in traces."""
    answer_type: Any
    """The message that answers one item: its ref, and a result of `result_type`."""
    result_type: Any

    def __init__(
        self,
        settings: RouterSettings,
        calls: Mapping[str, BatchCalls[Any, Any, Any]],
        options: Message,
        scope: CallScope,
    ) -> None:
        """Gather items into `calls`, which stand by the name of the items' field."""
        self._calls = calls
        self._batchers: dict[str, MicroBatcher[Any, Any]] = {
            name: MicroBatcher(
                functools.partial(batch_calls.run, options=options, scope=scope.at(name)),
                size_of=batch_calls.size_of,
                max_items=settings.batch_items,
                max_bytes=settings.batch_bytes,
                max_calls=settings.batch_calls,
                step=self.step,
                failure_of=failure_of,
            )
            for name, batch_calls in calls.items()
        }

    async def aclose(self) -> None:
        """Cancel whatever is still under way."""
        for batcher in self._batchers.values():
            await batcher.close()

    def field_of(self, item: Any) -> str:
        """Tell which field of an item holds what the model takes."""
        raise NotImplementedError

    async def prepare(self, items: Sequence[Any]) -> AsyncGenerator["ModelStreamItem", None]:
        """Yield what each item asks for, out of its message."""
        for item in items:
            yield self._prepared(item)

    def size_of(self, item: "ModelStreamItem") -> int:
        """Return its bytes, as StreamWork.size_of."""
        return item.size

    def ref_of(self, item: "ModelStreamItem") -> str:
        """Return its ref, as StreamWork.ref_of."""
        return item.ref

    def _prepared(self, item: Any) -> "ModelStreamItem":
        try:
            field = self.field_of(item)
            value = getattr(item, field)
            content = PackedImage.of(value) if isinstance(value, common_pb2.Image) else value
            return ModelStreamItem(item.ref, field, content, self._calls[field].size_of(content))
        except Exception as error:  # noqa: BLE001 - of this item alone
            return ModelStreamItem(item.ref, error=error)

    async def answer(self, item: "ModelStreamItem") -> Any:
        """Answer one item, as StreamWork.answer."""
        try:
            if item.error is not None:
                raise item.error
            result = await self._batchers[item.field].submit(item.content)
        except Exception as error:  # noqa: BLE001 - a fault of ours fails one item, not the stream
            spans.fail(trace.get_current_span(), error)
            result = self.result_type(error=to_status(error))
        else:
            if (refused := failure_of(result)) is not None:
                spans.fail(trace.get_current_span(), refused)
        return self.answer_type(ref=item.ref, result=result)


class ModelProxy(Generic[M]):
    """Passes the contract of one model service on to all services of that kind."""

    def __init__(
        self,
        settings: RouterSettings,
        runtime: Runtime[RouterSettings],
        models: M,
        directory: ModelDirectory,
        limits: JoinedLimits,
        streams: StreamLimits,
    ) -> None:
        self._settings = settings
        self._runtime = runtime
        self._models = models
        self._directory = directory
        self._limits = limits
        self._streams = streams

    def _open(self, options: Any, scope: CallScope) -> ModelStream:
        """Begin a stream with options that are settled."""
        raise NotImplementedError

    def _check(self, items: Sequence[Any], field: str) -> None:
        check_items(len(items), self._settings.max_items, field)

    async def _answers(self, request_iterator: Any, context: Any) -> AsyncGenerator[list[Any], None]:
        """Yield groups of answers to the items of a stream, as they are ready."""
        rest = aiter(request_iterator)
        first = await first_message(rest, self._streams.draining)
        if first is None:
            return
        patience = Patience(away_s=self._settings.wait_seconds, busy_s=self._settings.wait_seconds)
        scope = CallScope.of(context).waiting(patience)
        options = type(first.options)()
        options.CopyFrom(first.options)
        if options.priority == common_pb2.PRIORITY_UNSPECIFIED:
            # A stream's items travel in unary calls, where the default would be the other lane.
            options.priority = common_pb2.PRIORITY_BULK
        await self._models.pool.patiently(functools.partial(self._models.settle, options), scope)
        async with (
            aclosing(self._open(options, scope)) as stream,
            aclosing(answers(first, rest, self._streams, stream)) as groups,
        ):
            async for group in groups:
                yield group
