"""Translation of the database's errors for callers.

Their own texts are left out: they may name hosts, users and values.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from lensmesh_chassis.errors import LensmeshError, Unavailable
from lensmesh_chassis.reasons import Reason
from search_svc.refusals import RETRY_AFTER_S, no_pooled_connection, read_only, store_full, too_late, unavailable
from search_svc.store import StoreRefused

# The server is not there, does not let anyone in now, or cannot work now.
_AWAY = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.IdleSessionTimeoutError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.InsufficientResourcesError,
)
# A vector that nobody had any more was removed while another began to have it, or the other way round.
_COLLISIONS = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError, asyncpg.ForeignKeyViolationError)


class Collision(Unavailable):
    """Two transactions stood in each other's way. Either alone would have passed."""


def collision() -> Collision:
    """Build the error for a transaction that collided on every attempt."""
    return Collision(
        Reason.STORE_UNAVAILABLE,
        "the call collided with other writes each time it was tried: try again",
        retry_after_s=RETRY_AFTER_S,
    )


def translate(error: BaseException) -> LensmeshError | None:
    """Return the error that a caller gets for one of the database; None if it is a bug of ours."""
    if isinstance(error, ValueError):
        # The driver's word for a parameter it cannot encode, though it calls that an interface error too.
        return None
    if isinstance(error, asyncpg.InvalidAuthorizationSpecificationError):
        return unavailable("the database refuses this service's user or password")
    if isinstance(error, asyncpg.InvalidCatalogNameError):
        return unavailable("the database that the store URL names does not exist")
    if isinstance(error, asyncpg.TooManyConnectionsError) or "no more connections allowed" in str(error):
        return unavailable(
            "the database has no connection left: raise its max_connections (PgBouncer: max_client_conn), or lower"
            " LENSMESH_SEARCH_POOL_SIZE"
        )
    if isinstance(error, asyncpg.DiskFullError):
        return store_full()
    if isinstance(error, asyncpg.InsufficientResourcesError):
        return unavailable("the database has no memory left")
    if isinstance(error, asyncpg.PostgresSystemError):
        return unavailable("the database cannot read or write its files, as its log says")
    if isinstance(error, asyncpg.InsufficientPrivilegeError):
        return unavailable("the database refuses this service's user a right that it needs, as its log says")
    if isinstance(error, asyncpg.ReadOnlySQLTransactionError | asyncpg.TargetServerAttributeNotMatched):
        return read_only()
    if isinstance(error, asyncpg.TransactionTimeoutError):
        return too_late()
    if isinstance(error, asyncpg.IdleInTransactionSessionTimeoutError):
        return unavailable("the database ended a transaction in which this replica stood still")
    if isinstance(error, asyncpg.CannotConnectNowError):
        return unavailable("the database is starting, stopping or recovering")
    if isinstance(error, asyncpg.AdminShutdownError | asyncpg.CrashShutdownError):
        return unavailable("the database is shutting down, or ended this connection")
    if isinstance(error, asyncpg.ProtocolViolationError) and "query_wait_timeout" in str(error):
        return no_pooled_connection()
    if isinstance(error, _COLLISIONS):
        return collision()
    if isinstance(error, _AWAY):
        return unavailable("the database is not reachable")
    return None


def refusal(error: BaseException) -> StoreRefused | None:
    """Return what the operator has to change, where a pooler can never work as it is set up."""
    if isinstance(error, asyncpg.PostgresError) and "statement pooling" in str(error):
        return StoreRefused(
            "PgBouncer's pool_mode = statement allows no transactions: set pool_mode = transaction or session for this"
            " database"
        )
    return None


@contextmanager
def translated() -> Iterator[None]:
    """Raise what the driver raises inside as `translate` says; a bug of ours passes unchanged."""
    try:
        yield
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        if refused := refusal(error):
            raise refused from None
        meaning = translate(error)
        if meaning is None:
            raise
        raise meaning from None
