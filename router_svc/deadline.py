"""The caller's deadline in the event loop's time."""

import asyncio
import math
from typing import Any

from lensmesh_chassis.channels import remaining_s


def deadline_of(context: Any) -> float | None:
    """When the caller stops waiting, in loop time, less what the answer needs on its way; None: never."""
    left = remaining_s(context, math.inf)
    return None if math.isinf(left) else asyncio.get_running_loop().time() + left
