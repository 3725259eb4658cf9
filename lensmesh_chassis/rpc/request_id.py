"""The request id: one name of a call in every log and error, in all services that it passes."""

import os
import re
from contextvars import ContextVar

# Both are "" outside a call.
request_id: ContextVar[str] = ContextVar("lensmesh_request_id", default="")
# The full name of the method that is served, as "/package.Service/Method".
method: ContextVar[str] = ContextVar("lensmesh_method", default="")
# Size of the message that was received last in this call.
request_bytes: ContextVar[int] = ContextVar("lensmesh_request_bytes", default=0)

# What may stand in a log line and in metadata as it came. Anything else is replaced, not repaired.
_ACCEPTABLE = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")


def new_request_id() -> str:
    """Make a fresh random id of 32 hexadecimal digits."""
    return os.urandom(16).hex()


def accepted_request_id(sent: str | bytes | None) -> str:
    """Return the caller's id where it is acceptable, a new one otherwise."""
    text = sent.decode("ascii", "replace") if isinstance(sent, bytes) else sent
    return text if text and _ACCEPTABLE.fullmatch(text) else new_request_id()
