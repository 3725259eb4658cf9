"""Failures of tools, as a model reads them: what is wrong, what to do, and the reason as one word."""

from __future__ import annotations

from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from pydantic import ValidationError

from lensmesh_cli.mcp.cleaning import cleaned
from lensmesh_client import DeadlineExceeded, LensmeshError, Unavailable

MOST_CHARS = 2_000
MOST_ARGUMENTS = 5


class Refused(ToolError):  # noqa: N818  # what a tool says, not what went wrong in it
    """A call that cannot be done as it is. Its text names what is wrong and the fix."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(f"{message} ({reason})")


def told(error: ToolError, target: str) -> str:
    """Return what the model is told of a failed call. Nothing of an unforeseen error's own text is in it.

    `target` is the mesh's address: where nothing answers, a person must know what was asked.
    """
    cause = error.__cause__
    if isinstance(cause, Unavailable | DeadlineExceeded):
        asked = f" The mesh asked is at {cleaned(target, MOST_CHARS)}; lensmesh status --target shows how it is."
        return f"{cleaned(cause.message, MOST_CHARS)}.{_wait(cause)}{asked} ({cause.reason})"
    if isinstance(cause, LensmeshError):
        return of_the_mesh(cause)
    if isinstance(cause, ValidationError):
        return _of_arguments(cause)
    if isinstance(cause, ToolError):
        return cleaned(str(cause), MOST_CHARS)
    if isinstance(error, UnexpectedToolError):
        return "the call failed by a defect of lensmesh mcp; its log on standard error says where (INTERNAL)"
    return cleaned(str(error), MOST_CHARS)


def of_the_mesh(error: LensmeshError) -> str:
    """Return an error of the mesh in one line. A file's name or a stranger's text may stand in it."""
    return f"{cleaned(error.message, MOST_CHARS)}{_wait(error)} ({error.reason})"


def _wait(error: LensmeshError) -> str:
    return "" if error.retry_after_s is None else f" Try again in {error.retry_after_s:g} s."


def _of_arguments(error: ValidationError) -> str:
    """Name the arguments at fault. Their values are left out: they may be megabytes."""
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    said = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults[:MOST_ARGUMENTS]]
    more = len(faults) - len(said)
    rest = f"; and {more} more" if more else ""
    return (
        f"{cleaned('; '.join(said), MOST_CHARS)}{rest}. The tool's input schema says what is taken (ARGUMENT_INVALID)"
    )
