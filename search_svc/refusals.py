"""Errors that every store raises in the same words."""

from lensmesh_chassis.errors import DeadlineExceeded, NotFound, PreconditionFailed, Unavailable
from lensmesh_chassis.reasons import Reason
from search_svc.legs import VectorLeg

RETRY_AFTER_S = 1.0
# What a caller does about it, and a job does by itself.
_AGAIN = ": try again shortly"


def unavailable(why: str) -> Unavailable:
    """Build the error for a store that cannot be used now."""
    return Unavailable(Reason.STORE_UNAVAILABLE, f"{why}{_AGAIN}", retry_after_s=RETRY_AFTER_S)


def why_of(message: str) -> str:
    """Return why a store cannot be used, without what a caller is to do about it."""
    return message.removesuffix(_AGAIN)


def no_pooled_connection() -> Unavailable:
    """Build the error for a pooler that lets this replica wait."""
    return unavailable(
        "PgBouncer gave no connection to the database in time: raise its default_pool_size (with pool_mode = session"
        " each replica needs LENSMESH_SEARCH_POOL_SIZE + 1, and two more while it builds an index that was left for"
        " later), or lower LENSMESH_SEARCH_POOL_SIZE"
    )


def read_only() -> Unavailable:
    """Build the error for a store that is there and takes no writes."""
    return Unavailable(
        Reason.STORE_READ_ONLY,
        "the database takes no writes now: it is a standby, or default_transaction_read_only is on; name the primary,"
        " or all hosts with target_session_attrs=read-write, in LENSMESH_SEARCH_STORE_URL",
        retry_after_s=RETRY_AFTER_S,
    )


def store_full() -> Unavailable:
    """Build the error for a store that has no room left."""
    return Unavailable(
        Reason.STORE_FULL,
        "the database has no room left on its disk: free some, or give it more, then send the call again",
        retry_after_s=RETRY_AFTER_S,
    )


def too_late() -> DeadlineExceeded:
    """Build the error for a store that was not done in time."""
    return DeadlineExceeded(
        Reason.DEADLINE_EXCEEDED, "the store did not finish within the call's deadline: give it longer, or ask for less"
    )


def no_words(collection: str, language: str, path: str, field: str) -> PreconditionFailed:
    """Build the error for a question about the words of a field whose words are not kept."""
    metadata = {"text_field": path, "collection": collection}
    if not language:
        return PreconditionFailed(
            Reason.FIELD_NOT_INDEXED,
            f"{field}: the collection {collection} is from before words were kept in Qdrant: make another one, and"
            " write its items there",
            field=field,
            metadata=metadata,
        )
    return PreconditionFailed(
        Reason.FIELD_NOT_INDEXED,
        f"{field}: words of {path[:200]!r} are not kept in the collection {collection}: make a collection with a"
        " FieldIndex of type TEXT for it",
        field=field,
        metadata=metadata,
    )


def no_collection(name: str) -> NotFound:
    """Build the error for a collection that nobody made, or somebody removed."""
    return NotFound(
        Reason.COLLECTION_NOT_FOUND,
        f"there is no collection {name[:80]!r}: create it first",
        metadata={"collection": name},
    )


def no_item(collection: str, leg: VectorLeg) -> NotFound:
    """Build the error for a search near an item that is not there."""
    return NotFound(
        Reason.ITEM_NOT_FOUND,
        f"the collection {collection} has no item {leg.item_id!r}",
        field=f"legs[{leg.place}].item_id",
        metadata={"item_id": leg.item_id, "collection": collection},
    )


def no_vector(leg: VectorLeg) -> PreconditionFailed:
    """Build the error for a search near an item that has no vector in the leg's space."""
    return PreconditionFailed(
        Reason.ITEM_WITHOUT_VECTOR,
        f"the item {leg.item_id!r} has no vector {leg.space.name}: give it one, or name another space",
        field=f"legs[{leg.place}].item_id",
        metadata={"item_id": leg.item_id, "space": leg.space.name},
    )
