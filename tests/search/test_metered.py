"""Every operation of a store is timed, and its errors are counted by bounded reasons."""

import asyncio
import inspect
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from lensmesh_chassis.errors import NotFound, Unavailable
from lensmesh_chassis.reasons import Reason
from search_svc.jobs.metered import JOB_OPERATIONS, PART_OPERATIONS
from search_svc.jobs.store import JobStore, LeaseLost, PartStore
from search_svc.metered import OPERATIONS, MeteredStore
from search_svc.store import StaleCollection, Store, StoreRefused


class Faulty:
    """Whatever is asked of it, it raises `fault`, or answers its own name."""

    def __init__(self) -> None:
        self.fault: BaseException | None = None
        self.closed = False

    @property
    def jobs(self) -> "Faulty":
        return self

    @property
    def parts(self) -> "Faulty":
        return self

    def __getattr__(self, name: str) -> Any:
        async def operation(*_: object, **__: object) -> str:
            if self.fault is not None:
                raise self.fault
            return name

        return operation

    async def close(self) -> None:
        self.closed = True

    def describe(self) -> str:
        return "faulty 1.0"

    def position(self, item_id: str) -> str:
        return f"behind {item_id}"


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def metered(registry: CollectorRegistry) -> tuple[Faulty, MeteredStore]:
    inner: Any = Faulty()
    return inner, MeteredStore(inner, registry)


async def perform(store: MeteredStore, operation: str) -> Any:
    """Calls an operation with a stand-in for each argument."""
    if operation in JOB_OPERATIONS:
        method = getattr(store.jobs, operation.removeprefix("job_"))
    elif operation in PART_OPERATIONS:
        method = getattr(store.jobs.parts, operation.removeprefix("part_"))
    else:
        method = getattr(store, operation)
    given: list[Any] = []
    named: dict[str, Any] = {}
    for parameter in inspect.signature(method).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY:
            named[parameter.name] = None
        else:
            given.append(None)
    return await method(*given, **named)


def test_no_operation_of_the_protocol_is_forgotten() -> None:
    operations = [name for name, member in vars(Store).items() if inspect.iscoroutinefunction(member)]
    assert sorted(OPERATIONS) == sorted(set(operations) - {"close"})
    of_jobs = [f"job_{name}" for name, member in vars(JobStore).items() if inspect.iscoroutinefunction(member)]
    assert sorted(JOB_OPERATIONS) == sorted(of_jobs)
    of_parts = [f"part_{name}" for name, member in vars(PartStore).items() if inspect.iscoroutinefunction(member)]
    assert sorted(PART_OPERATIONS) == sorted(of_parts)


@pytest.mark.parametrize("operation", [*OPERATIONS, *JOB_OPERATIONS, *PART_OPERATIONS])
async def test_each_operation_is_passed_on_and_timed(registry: CollectorRegistry, operation: str) -> None:
    _, store = metered(registry)
    answer = await perform(store, operation)
    assert answer in (operation.removeprefix("job_").removeprefix("part_"), None)
    counts = {
        name: registry.get_sample_value("lensmesh_store_operation_seconds_count", {"operation": name})
        for name in (*OPERATIONS, *JOB_OPERATIONS, *PART_OPERATIONS)
    }
    assert {name for name, count in counts.items() if count} == {operation}


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Unavailable(Reason.STORE_UNAVAILABLE, "away"), "STORE_UNAVAILABLE"),
        (NotFound(Reason.COLLECTION_NOT_FOUND, "there is no collection 'made up'"), "COLLECTION_NOT_FOUND"),
        (StaleCollection(), "STALE"),
        (LeaseLost(), "LEASE_LOST"),
        (StoreRefused("a newer schema"), "REFUSED"),
        (ValueError("a bug"), "UNEXPECTED"),
    ],
)
@pytest.mark.parametrize("operation", [*OPERATIONS, "job_take", "job_renew"])
async def test_errors_pass_through_and_are_counted(
    registry: CollectorRegistry, operation: str, fault: BaseException, reason: str
) -> None:
    inner, store = metered(registry)
    inner.fault = fault
    with pytest.raises(type(fault)) as caught:
        await perform(store, operation)
    assert caught.value is fault
    labels = {"operation": operation, "reason": reason}
    assert registry.get_sample_value("lensmesh_store_errors_total", labels) == 1
    assert registry.get_sample_value("lensmesh_store_operation_seconds_count", {"operation": operation}) == 1


async def test_a_caller_that_leaves_is_no_error(registry: CollectorRegistry) -> None:
    inner, store = metered(registry)
    inner.fault = asyncio.CancelledError()
    with pytest.raises(asyncio.CancelledError):
        await perform(store, "search")
    errors = [sample for metric in registry.collect() for sample in metric.samples if "errors_total" in sample.name]
    assert errors
    assert all(sample.value == 0 for sample in errors)


async def test_the_rest_is_passed_on(registry: CollectorRegistry) -> None:
    inner, store = metered(registry)
    assert store.describe() == "faulty 1.0"
    assert store.position("a") == "behind a"
    await store.close()
    assert inner.closed
