"""Images of Arthur's as a router tells them."""

from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import NotFound
from lensmesh_chassis.reasons import Reason

NO_COLLECTION = NotFound(Reason.COLLECTION_NOT_FOUND, "there is no collection arthur")


def item(artist: str, entry: str, view: str, item_id: str = "") -> search_pb2.Item:
    """An item with the names of its metadata."""
    made = search_pb2.Item(id=item_id or f"{artist}.{entry}.{view}")
    made.metadata.update({"artist": artist, "entry": entry, "view": view})
    return made
