"""Collection of everything that is wrong with a request, so that a caller sees all of it at once."""

from collections.abc import Mapping

from lensmesh_chassis.errors import InternalFault, InvalidInput, PreconditionFailed, Violation
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import to_status

_SHOWN = 16


class Findings:
    """All that is wrong with a request.

    A wrong request (INVALID_ARGUMENT) is told before a wrong state (FAILED_PRECONDITION).
    """

    def __init__(self) -> None:
        self._invalid: list[tuple[Reason, Violation, Mapping[str, object]]] = []
        self._unfit: list[tuple[Reason, Violation, Mapping[str, object]]] = []
        self._broken: list[tuple[Violation, Exception]] = []

    def invalid(self, reason: Reason, field: str, description: str, **metadata: object) -> None:
        """Add a field that is wrong, whatever is stored."""
        self._invalid.append((reason, Violation(field, f"{field}: {description}"), metadata))

    def unfit(self, reason: Reason, field: str, description: str, **metadata: object) -> None:
        """Add a field that does not fit what is stored."""
        self._unfit.append((reason, Violation(field, f"{field}: {description}"), metadata))

    def broken(self, field: str, error: Exception) -> None:
        """Add a field that could not be read, by a fault of ours that nobody foresaw. It is logged, and told last."""
        self._broken.append((Violation(field, f"{field}: {to_status(error).message}"), error))

    def __bool__(self) -> bool:
        return bool(self._invalid or self._unfit or self._broken)

    def check(self) -> None:
        """Raise what was found, if anything: the first reason and message, and every field."""
        found = self._invalid or self._unfit
        if not found:
            if self._broken:
                first, cause = self._broken[0]
                violations = [violation for violation, _ in self._broken]
                raise InternalFault(Reason.INTERNAL, first.description, violations=violations) from cause
            return
        reason, named, metadata = found[0]
        message = named.description
        if len(found) > 1:
            others = f"{len(found) - 1} more"
            if len(found) > _SHOWN:
                others += f", of which the first {_SHOWN - 1} are named"
            message += f" (and {others})"
        error = InvalidInput if self._invalid else PreconditionFailed
        raise error(reason, message, violations=[violation for _, violation, _ in found], metadata=metadata)
