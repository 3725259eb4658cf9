"""Everything that is wrong with a request, collected, so that a caller sees all of it at once."""

from collections.abc import Mapping

from lensmesh_chassis.errors import InvalidInput, PreconditionFailed, Violation
from lensmesh_chassis.reasons import Reason

_SHOWN = 16


class Findings:
    """What is wrong. A wrong request (INVALID_ARGUMENT) is said before a wrong state (FAILED_PRECONDITION)."""

    def __init__(self) -> None:
        self._invalid: list[tuple[Reason, Violation, Mapping[str, object]]] = []
        self._unfit: list[tuple[Reason, Violation, Mapping[str, object]]] = []

    def invalid(self, reason: Reason, field: str, description: str, **metadata: object) -> None:
        """The field is wrong, whatever is stored."""
        self._invalid.append((reason, Violation(field, f"{field}: {description}"), metadata))

    def unfit(self, reason: Reason, field: str, description: str, **metadata: object) -> None:
        """The field does not fit what is stored."""
        self._unfit.append((reason, Violation(field, f"{field}: {description}"), metadata))

    def __bool__(self) -> bool:
        return bool(self._invalid or self._unfit)

    def check(self) -> None:
        """Raises what was found: the first reason and message, and every field."""
        found = self._invalid or self._unfit
        if not found:
            return
        reason, first, metadata = found[0]
        message = first.description
        if len(found) > 1:
            others = f"{len(found) - 1} more"
            if len(found) > _SHOWN:
                others += f", of which the first {_SHOWN - 1} are named"
            message += f" (and {others})"
        error = InvalidInput if self._invalid else PreconditionFailed
        raise error(reason, message, violations=[violation for _, violation, _ in found], metadata=metadata)
