"""Errors that every store raises in the same words."""

from lensmesh_chassis.errors import DeadlineExceeded, NotFound, PreconditionFailed, Unavailable
from lensmesh_chassis.reasons import Reason

RETRY_AFTER_S = 1.0


def unavailable(why: str) -> Unavailable:
    """The store cannot be used now."""
    return Unavailable(Reason.STORE_UNAVAILABLE, f"{why}: try again shortly", retry_after_s=RETRY_AFTER_S)


def too_late() -> DeadlineExceeded:
    """The store was not done in time."""
    return DeadlineExceeded(
        Reason.DEADLINE_EXCEEDED, "the store did not finish within the call's deadline: give it longer, or ask for less"
    )


def no_collection(name: str) -> NotFound:
    """Nobody made it, or somebody removed it."""
    return NotFound(
        Reason.COLLECTION_NOT_FOUND,
        f"there is no collection {name[:80]!r}: create it first",
        metadata={"collection": name},
    )


def no_item(collection: str, item_id: str) -> NotFound:
    """A search near an item that is not there."""
    return NotFound(
        Reason.ITEM_NOT_FOUND,
        f"the collection {collection} has no item {item_id!r}",
        field="legs[0].item_id",
        metadata={"item_id": item_id, "collection": collection},
    )


def no_vector(item_id: str, space: str) -> PreconditionFailed:
    """A search near an item that has no vector in that space."""
    return PreconditionFailed(
        Reason.ITEM_WITHOUT_VECTOR,
        f"the item {item_id!r} has no vector {space}: give it one, or name another space",
        field="legs[0].item_id",
        metadata={"item_id": item_id, "space": space},
    )
