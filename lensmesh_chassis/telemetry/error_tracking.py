"""Reports of unexpected errors to a Sentry server, where a DSN is set; without one nothing of Sentry is imported.

A report is built from a list of what may leave the process, not cleaned of what may not: the exception's type and those
behind it, the names, files and lines of their frames, and which call it was. It never holds a message, an argument or a
local variable: these hold images, queries and passwords.
"""

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from opentelemetry import trace

from lensmesh_chassis.errors import LensmeshError
from lensmesh_chassis.process.server_info import version
from lensmesh_chassis.rpc.request_id import method, request_id

if TYPE_CHECKING:  # what speaks gRPC understands errors, and needs no settings classes for it
    from lensmesh_chassis.settings import ServiceSettings

_log = logging.getLogger(__name__)

# Longest wait at exit for the last events to leave, in seconds.
_FLUSH_SECONDS = 2.0
# A batch of poisoned items is one fault, and a report costs some milliseconds.
_MOST, _IN_SECONDS = 10, 10.0

_OURS = [
    "lensmesh_chassis",
    "lensmesh_inference",
    "lensmesh_serving",
    "encoder_svc",
    "caption_svc",
    "search_svc",
    "router_svc",
]
_KEPT = ("event_id", "timestamp", "level", "platform", "release", "environment", "server_name", "tags", "sdk", "logger")
_KEPT_OF_FRAME = ("function", "module", "filename", "lineno", "in_app")


class ErrorTracking:
    """Sender of reports, in the background. To be closed at the end of the process."""

    def __init__(self, settings: "ServiceSettings", service: str) -> None:
        # Imported here: who sets no DSN pays neither its memory nor its time.
        import sentry_sdk
        from sentry_sdk.utils import event_from_exception

        self._service = service
        self._from_exception: Any = event_from_exception
        self._times: list[float] = []
        # A client of its own, not sentry_sdk.init(): that patches the standard library, logging and whatever else it
        # finds installed, and collects breadcrumbs from them.
        self._client = sentry_sdk.Client(
            dsn=settings.sentry_dsn.get_secret_value(),
            release=f"lensmesh@{version()}",
            environment=settings.sentry_environment,
            server_name=settings.instance,
            sample_rate=settings.sentry_sample_rate,
            default_integrations=False,
            auto_enabling_integrations=False,
            include_local_variables=False,
            include_source_context=False,
            max_request_body_size="never",
            max_breadcrumbs=0,
            auto_session_tracking=False,
            send_client_reports=False,
            enable_backpressure_handling=False,
            spotlight=False,
            in_app_include=_OURS,
            shutdown_timeout=_FLUSH_SECONDS,
            before_send=only_what_may_leave,
        )

    def capture(self, error: BaseException) -> None:
        """Queue a report of `error` with the call that it happened in. Never raises, never waits."""
        try:
            if self._room():
                event, hint = self._from_exception(error, client_options=self._client.options)
                event["tags"] = self._tags(error)
                span = trace.get_current_span().get_span_context()
                if span.is_valid:
                    ids = {"trace_id": f"{span.trace_id:032x}", "span_id": f"{span.span_id:016x}"}
                    event["contexts"] = {"trace": ids}
                self._client.capture_event(event, hint)
        except Exception as failure:  # noqa: BLE001 - a call must not fail because its failure cannot be reported
            _log.warning("an error could not be reported: %s", type(failure).__name__)

    def close(self) -> None:
        """Send what is queued, for a moment at most: a server that cannot be reached must not hold up the exit."""
        thread = threading.Thread(target=self._client.close, name="sentry-close", daemon=True)
        thread.start()
        thread.join(2 * _FLUSH_SECONDS)

    def _room(self) -> bool:
        now = time.monotonic()
        self._times = [one for one in self._times if now - one < _IN_SECONDS]
        if len(self._times) >= _MOST:
            return False
        self._times.append(now)
        return True

    def _tags(self, error: BaseException) -> dict[str, str]:
        tags = {"service": self._service, "method": method.get(), "request_id": request_id.get()}
        if isinstance(error, LensmeshError):
            tags["reason"] = str(error.reason)
        return {name: value for name, value in tags.items() if value}


def only_what_may_leave(event: Any, _hint: Any) -> Any:
    """Return the event to send instead of `event`. This is Sentry's before_send."""
    kept = {name: event[name] for name in _KEPT if name in event}
    ids = event.get("contexts", {}).get("trace")
    if ids:
        kept["contexts"] = {"trace": {name: ids[name] for name in ("trace_id", "span_id") if name in ids}}
    if "method" in kept.get("tags", {}):
        kept["transaction"] = kept["tags"]["method"]
    values = event.get("exception", {}).get("values", [])
    kept["exception"] = {"values": [_exception(value) for value in values]}
    return kept


def _exception(value: Any) -> dict[str, Any]:
    frames = (value.get("stacktrace") or {}).get("frames", [])
    return {
        "type": value.get("type"),
        "module": value.get("module"),
        "stacktrace": {"frames": [{name: frame.get(name) for name in _KEPT_OF_FRAME} for frame in frames]},
    }


_tracking: ErrorTracking | None = None


def start_error_tracking(settings: "ServiceSettings", service: str) -> None:
    """Let `capture` report from now on, where the settings name a DSN."""
    global _tracking
    _tracking = ErrorTracking(settings, service) if settings.sentry_dsn.get_secret_value() else None


def stop_error_tracking() -> None:
    """Send the last reports. From now on nothing is reported."""
    global _tracking
    ending, _tracking = _tracking, None
    if ending is not None:
        ending.close()


def capture(error: BaseException) -> None:
    """Report an unexpected error, where this process has somewhere to report it to."""
    if _tracking is not None:
        _tracking.capture(error)
