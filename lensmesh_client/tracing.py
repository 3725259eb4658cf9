"""A trace begins here, or goes on: each operation of the client is a span around the calls that it makes.

Spans are made where the embedding application set a tracer provider, and by the `lensmesh` command where the OTEL
variables name a collector.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from lensmesh_chassis.telemetry import spans
from lensmesh_client.types import Priority

P = ParamSpec("P")
R = TypeVar("R")


def lane(priority: Any, default: Priority) -> str:
    """Name the lane that an operation asks for, as spans do."""
    return Priority.BULK if priority == Priority.BULK else Priority.INTERACTIVE if priority else default


def operation(name: str) -> Callable[[Callable[P, Awaitable[R]]], Callable[P, Coroutine[Any, Any, R]]]:
    """Make every run of a method a span of that name."""

    def traced(method: Callable[P, Awaitable[R]]) -> Callable[P, Coroutine[Any, Any, R]]:
        @functools.wraps(method)
        async def run(*args: P.args, **kwargs: P.kwargs) -> R:
            with spans.operation(name, {spans.LANE: lane(kwargs.get("priority"), Priority.INTERACTIVE)}):
                return await method(*args, **kwargs)

        return run

    return traced
