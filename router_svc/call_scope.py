"""Scope of everything that is done for one call: made where it comes in, and handed down."""

import asyncio
import math
from dataclasses import dataclass
from typing import Any

from lensmesh_chassis.channels import remaining_s
from lensmesh_chassis.errors import DeadlineExceeded
from lensmesh_chassis.reasons import Reason


@dataclass(frozen=True, slots=True)
class Patience:
    """Limits of how long one piece of work may wait for somebody to take it."""

    away_s: float = 0.0
    """While every service that could is gone, from when the last of them went away: only the first to notice waits."""
    busy_s: float = 0.0
    """While every service that could has too much to do."""


@dataclass(frozen=True, slots=True)
class CallScope:
    """Times that the caller waits and that work may wait for a service, and the caller's name for what is worked at."""

    deadline: float | None = None
    """Time when the caller stops waiting, in loop time, less what the answer needs on its way; None: never."""
    patience: Patience = Patience()
    field_path: str | tuple[str, ...] = ""
    """Path in the caller's request. Of a list of items: "images[]", where the item's place goes between the brackets;
    "image", which is said of each of them; or one path for each. Empty: the request itself."""

    @classmethod
    def of(cls, context: Any, field_path: str = "") -> "CallScope":
        """Make the scope of a call that has just come in: nothing waits for a service that is away."""
        left = remaining_s(context, math.inf)
        deadline = None if math.isinf(left) else asyncio.get_running_loop().time() + left
        return cls(deadline, field_path=field_path)

    def waiting(self, patience: Patience) -> "CallScope":
        """Return the same scope with another patience."""
        return CallScope(self.deadline, patience, self.field_path)

    def at(self, field_path: str | tuple[str, ...]) -> "CallScope":
        """Return the same scope for what lies at another path."""
        return CallScope(self.deadline, self.patience, field_path)

    def inside(self, name: str) -> str:
        """Return the path of a field of what this scope is at."""
        return f"{self.field_path}.{name}" if self.field_path else name

    def path(self, index: int) -> str:
        """Return the path of one item of the list that this scope is at."""
        if isinstance(self.field_path, tuple):
            return self.field_path[index]
        return self.field_path.replace("[]", f"[{index}]")

    def seconds_left(self, most: float) -> float:
        """Return how long the next step may take, `most` at most. Raises DeadlineExceeded where no time is left."""
        if self.deadline is None:
            return most
        left = self.deadline - asyncio.get_running_loop().time()
        if left <= 0:
            raise DeadlineExceeded(Reason.DEADLINE_EXCEEDED, "the call's deadline passed before its work was done")
        return min(most, left)


NO_LIMIT = CallScope()
"""Work of the router's own, which no caller waits for."""
