"""Methods whose arguments are the fields of a dataclass, so that each is named and described in one place."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar

P = ParamSpec("P")
S = TypeVar("S")
A = TypeVar("A")
R = TypeVar("R")
Kind = TypeVar("Kind", bound=type)

_ARGUMENT = re.compile(r"^    (\w+): .*(?:\n     .*)*", re.MULTILINE)
_ARGUMENTS = re.compile(r"\n+Args:(?:\n+    .*)*")


def taking(
    kind: Callable[P, S],
) -> Callable[[Callable[[A, S], Coroutine[Any, Any, R]]], Callable[Concatenate[A, P], Coroutine[Any, Any, R]]]:
    """Give a method the arguments of the dataclass `kind`: it is called with these, and gets the value.

    Types, signature and help are those of the dataclass.
    """

    def wrap(method: Callable[[A, S], Coroutine[Any, Any, R]]) -> Callable[Concatenate[A, P], Coroutine[Any, Any, R]]:
        async def call(self: A, /, *args: P.args, **kwargs: P.kwargs) -> R:
            return await method(self, kind(*args, **kwargs))

        call.__name__, call.__qualname__, call.__module__ = method.__name__, method.__qualname__, method.__module__
        own, made = inspect.signature(method), inspect.signature(kind)
        of_self = next(iter(own.parameters.values()))
        parameters = [of_self, *made.parameters.values()]
        call.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]  # read by inspect
        call.__doc__ = _with_arguments(inspect.getdoc(method) or "", kind)
        return call

    return wrap


def described(kind: Kind) -> Kind:
    """Describe in a dataclass' docstring the fields that it has from its bases as well."""
    kind.__doc__ = _with_arguments(inspect.getdoc(kind) or "", kind)
    return kind


def _with_arguments(text: str, kind: Callable[..., object]) -> str:
    """Return a docstring with a description of every argument of the dataclass, before what it returns."""
    told: dict[str, str] = {}
    for each in reversed(inspect.getmro(kind)) if isinstance(kind, type) else ():
        told |= {found[1]: found[0] for found in _ARGUMENT.finditer(inspect.cleandoc(each.__doc__ or ""))}
    if not told:
        # Python without docstrings (-OO).
        return text
    lead, _, returned = _ARGUMENTS.sub("", text).partition("\n\nReturns:")
    arguments = "\n".join(told[name] for name in inspect.signature(kind).parameters)
    return f"{lead}\n\nArgs:\n{arguments}\n" + (f"\nReturns:{returned}" if returned else "")
