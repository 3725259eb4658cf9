"""Domain errors to statuses and back, within the sizes that gRPC carries."""

import asyncio
from typing import Any

import grpc
import pytest
from google.rpc import code_pb2, error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st

from lensmesh_chassis import errors
from lensmesh_chassis.contract import DETAILS_KEY
from lensmesh_chassis.errors import InternalFault, InvalidInput, LensmeshError, Unavailable, UpstreamFault, Violation
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import from_rpc_error, from_status, to_status

CODES = {
    errors.InvalidInput: "INVALID_ARGUMENT",
    errors.NotFound: "NOT_FOUND",
    errors.AlreadyExists: "ALREADY_EXISTS",
    errors.PreconditionFailed: "FAILED_PRECONDITION",
    errors.Overloaded: "RESOURCE_EXHAUSTED",
    errors.Unavailable: "UNAVAILABLE",
    errors.NotBuilt: "UNIMPLEMENTED",
    errors.DeadlineExceeded: "DEADLINE_EXCEEDED",
    errors.Cancelled: "CANCELLED",
    errors.PermissionDenied: "PERMISSION_DENIED",
    errors.InternalFault: "INTERNAL",
}


def test_the_tree_in_the_docstring_is_the_code() -> None:
    assert {cls.__name__ for cls in LensmeshError.__subclasses__()} == {cls.__name__ for cls in CODES} | {
        "UpstreamFault"
    }
    for cls, code in CODES.items():
        line = next(line for line in (errors.__doc__ or "").splitlines() if f"+-- {cls.__name__} " in line)
        assert line.split()[2] == code


@pytest.mark.parametrize("cls", CODES)
def test_a_round_trip_changes_nothing(cls: type[LensmeshError]) -> None:
    error = cls(
        Reason.OPTION_INVALID,
        "top_k is 0: use 1 to 100",
        field="options.top_k",
        violations=[Violation("options.x", "unknown")],
        retry_after_s=1.25,
        metadata={"value": 0},
    )
    status = to_status(error)
    assert status.code == code_pb2.Code.Value(CODES[cls])
    assert [detail.TypeName() for detail in status.details].count("google.rpc.ErrorInfo") == 1
    back = from_status(status)
    assert type(back) is cls
    assert (back.reason, back.message, back.violations, back.retry_after_s, back.metadata) == (
        error.reason,
        error.message,
        error.violations,
        error.retry_after_s,
        error.metadata,
    )


def test_the_base_class_cannot_be_raised() -> None:
    with pytest.raises(TypeError):
        LensmeshError(Reason.INTERNAL, "no code")


def test_a_subclass_has_the_code_of_its_base() -> None:
    class StoreAway(Unavailable):
        """As a service may derive one."""

    assert to_status(StoreAway(Reason.STORE_UNAVAILABLE, "the database is away")).code == code_pb2.UNAVAILABLE


@pytest.mark.parametrize("reason", [Reason.OVERLOADED, Reason.DRAINING, Reason.NOT_READY, Reason.STORE_UNAVAILABLE])
def test_what_passes_by_itself_says_when_to_come_back(reason: Reason) -> None:
    assert from_status(to_status(Unavailable(reason, "later"))).retry_after_s == 1.0


def test_another_code_is_kept() -> None:
    error = from_status(status_pb2.Status(code=code_pb2.DATA_LOSS, message="gone"))
    assert isinstance(error, UpstreamFault)
    assert to_status(error).code == code_pb2.DATA_LOSS


@pytest.mark.parametrize("code", [0, 99])
def test_an_error_never_becomes_ok_or_nonsense(code: int) -> None:
    assert to_status(UpstreamFault(Reason.UNKNOWN, "odd", code=code)).code == code_pb2.UNKNOWN


def test_an_unknown_reason_is_said_to_be_one() -> None:
    status = to_status(InvalidInput(Reason.NO_ITEMS, "none"))
    info = error_details_pb2.ErrorInfo(reason="FROM_THE_FUTURE", domain="lensmesh")
    status.details[0].Pack(info)
    error = from_status(status)
    assert error.reason is Reason.UNKNOWN
    assert error.metadata["reason"] == "FROM_THE_FUTURE"


def test_details_that_cannot_be_read_do_not_hide_the_error() -> None:
    status = status_pb2.Status(code=code_pb2.NOT_FOUND, message="no collection x")
    status.details.add(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"\xff\xff")
    error = from_status(status)
    assert isinstance(error, errors.NotFound)
    assert error.message == "no collection x"


texts = st.text(st.characters(exclude_categories=()), max_size=3000)


@given(texts, st.lists(st.tuples(texts, texts), max_size=40), st.dictionaries(texts, texts, max_size=30))
def test_every_status_fits_into_trailers(message: str, violations: list[tuple[str, str]], metadata: Any) -> None:
    error = InvalidInput(
        Reason.FILTER_INVALID, message, violations=[Violation(*one) for one in violations], metadata=metadata
    )
    status = to_status(error, request_id="r" * 128)
    assert status.ByteSize() <= 4096
    # Percent-encoding makes three bytes of one at worst; gRPC's soft limit of all metadata is 8 KiB.
    assert status.ByteSize() + 3 * len(status.message.encode()) <= 7800
    back = from_status(status)
    assert len(back.violations) <= 16
    if violations and not message:
        assert back.violations


def test_a_stranger_is_told_nothing() -> None:
    status = to_status(RuntimeError("SELECT secret FROM users"), request_id="r1")
    assert status.code == code_pb2.INTERNAL
    assert "secret" not in str(status)
    assert from_status(status).metadata == {"request_id": "r1"}


def rpc_error(code: grpc.StatusCode, details: str, status: status_pb2.Status | None = None) -> grpc.aio.AioRpcError:
    trailing = grpc.aio.Metadata(*([(DETAILS_KEY, status.SerializeToString())] if status else []))
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details)


def test_a_peers_error_is_passed_on_as_it_was() -> None:
    status = to_status(InvalidInput(Reason.TEXT_EMPTY, "texts[0] is empty", field="texts[0]"))
    error = rpc_error(grpc.StatusCode.INVALID_ARGUMENT, status.message, status)
    assert to_status(error) == status


@pytest.mark.parametrize(
    ("code", "cls", "reason"),
    [
        (grpc.StatusCode.UNAVAILABLE, errors.Unavailable, Reason.UNKNOWN),
        (grpc.StatusCode.DEADLINE_EXCEEDED, errors.DeadlineExceeded, Reason.DEADLINE_EXCEEDED),
        (grpc.StatusCode.CANCELLED, errors.Cancelled, Reason.CANCELLED),
        (grpc.StatusCode.UNIMPLEMENTED, errors.NotBuilt, Reason.NOT_IMPLEMENTED),
        (grpc.StatusCode.UNKNOWN, UpstreamFault, Reason.UNKNOWN),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, errors.Overloaded, Reason.OVERLOADED),
    ],
)
def test_plain_grpc_errors_map_by_code(code: grpc.StatusCode, cls: type[LensmeshError], reason: Reason) -> None:
    error = from_rpc_error(rpc_error(code, "as gRPC says it"))
    assert type(error) is cls
    assert error.reason is reason
    assert "as gRPC says it" in error.message


def test_details_of_another_status_are_not_believed() -> None:
    status = to_status(InvalidInput(Reason.TEXT_EMPTY, "texts[0] is empty"))
    error = from_rpc_error(rpc_error(grpc.StatusCode.UNAVAILABLE, "no healthy upstream", status))
    assert isinstance(error, Unavailable)
    assert error.message == "no healthy upstream"


def test_an_error_without_anything_is_understood_too() -> None:
    assert isinstance(from_rpc_error(grpc.RpcError()), UpstreamFault)


def test_a_cancellation_inside_is_a_fault() -> None:
    assert isinstance(from_status(to_status(asyncio.CancelledError())), InternalFault)
