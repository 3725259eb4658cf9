"""Times and errors of a store's operations, and a span of each where its call has one."""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from prometheus_client import CollectorRegistry

from lensmesh_chassis.errors import LensmeshError
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.telemetry import spans
from lensmesh_chassis.telemetry.exemplars import exemplar
from lensmesh_chassis.telemetry.loop_metrics import Counter, Histogram
from search_svc.jobs.store import LeaseLost
from search_svc.store import StaleCollection, StoreRefused

T = TypeVar("T")

# Collections are answered from memory but for the first time; a job that is watched is read twice a second.
_UNTRACED = frozenset({"find_collection", "job_get"})
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class StoreMeter:
    """Metrics of the operations of one store.

    Labels are this code's operations and reasons: no collection's name, no caller's word.

    Args:
        operations: all that there are.
        registry: where metrics are told.
        describe: tells which store it is, its kind first.
    """

    def __init__(self, operations: Sequence[str], registry: CollectorRegistry, describe: Callable[[], str]) -> None:
        self._describe = describe
        seconds = Histogram(
            "lensmesh_store_operation_seconds",
            "Time of one operation of the store, whatever came of it.",
            ("operation",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._seconds = {operation: seconds.labels(operation) for operation in operations}
        self._errors = Counter(
            "lensmesh_store_errors_total",
            "Operations that raised, by reason as callers see it; STALE is a collection that was made anew meanwhile, "
            "LEASE_LOST a job that another replica has by now, REFUSED a store that must not be used, UNEXPECTED a "
            "defect.",
            ("operation", "reason"),
            registry=registry,
        )
        for operation in operations:
            # There from the start, so that the first one is seen as an increase.
            self._errors.labels(operation, str(Reason.STORE_UNAVAILABLE))

    async def timed(self, operation: str, work: Awaitable[T]) -> T:
        """Do the work of an operation. Raises what it raises."""
        begun = time.perf_counter()
        try:
            if operation in _UNTRACED or not spans.recording():
                return await work
            facts = {"db.system.name": self._describe().split()[0], "db.operation.name": operation}
            with spans.span(f"store {operation}", facts):
                return await work
        except LensmeshError as error:
            self._errors.labels(operation, str(error.reason)).inc()
            raise
        except StaleCollection:
            self._errors.labels(operation, "STALE").inc()
            raise
        except LeaseLost:
            self._errors.labels(operation, "LEASE_LOST").inc()
            raise
        except StoreRefused:
            self._errors.labels(operation, "REFUSED").inc()
            raise
        except Exception:
            self._errors.labels(operation, "UNEXPECTED").inc()
            raise
        finally:
            self._seconds[operation].observe(time.perf_counter() - begun, exemplar())
