"""Images as Arthur image recognition has them: each is a view of an entry of an artist, in one collection."""

from __future__ import annotations

import unicodedata
from typing import Any, NamedTuple, Protocol

from lensmesh.encoder.v1 import encoder_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import AlreadyExists, InvalidInput, NotFound, PreconditionFailed
from lensmesh_chassis.reasons import Reason
from lensmesh_client.guard import check_text

COLLECTION = "arthur"
"""The collection's name unless another one is set."""
FIELDS = ("artist", "entry", "view")
"""The metadata fields of each item. All have an index."""
SEPARATOR = "."
_MAX_ID_BYTES = 256


class ViewNames(NamedTuple):
    """The names of one image."""

    artist: str
    entry: str
    view: str

    @property
    def path(self) -> str:
        """The names as people write them."""
        return "/".join(self)

    @property
    def metadata(self) -> dict[str, str]:
        """What is kept with the item."""
        return dict(zip(FIELDS, self, strict=True))

    def item_id(self, fields: tuple[str, str, str] = ("artist", "entry", "view")) -> str:
        """Return `Item.id`: the names with dots between them. In a name, a dot is %2E and a percent sign %25.

        Args:
            fields: What the names are called in an error.

        Raises:
            InvalidInput: ITEM_ID_INVALID or TEXT_INVALID, with the name that no id can hold.
        """
        for name, field in zip(self, fields, strict=True):
            check_text(name, field)
            if not name:
                raise InvalidInput(Reason.ITEM_ID_INVALID, f"{field} is empty: each image has three names", field=field)
            if any(unicodedata.category(sign) == "Cc" for sign in name):
                raise InvalidInput(
                    Reason.ITEM_ID_INVALID, f"{field} has control characters: use printable ones", field=field
                )
        made = SEPARATOR.join(name.replace("%", "%25").replace(SEPARATOR, "%2E") for name in self)
        size = len(made.encode())
        if size > _MAX_ID_BYTES:
            _, field = max(zip(map(len, self), fields, strict=True), key=lambda each: each[0])
            raise InvalidInput(
                Reason.ITEM_ID_INVALID,
                f"the names make an id of {size} bytes and the limit is {_MAX_ID_BYTES}: shorten {field}",
                field=field,
                metadata={"size_bytes": size, "limit_bytes": _MAX_ID_BYTES},
            )
        return made


def names_of_id(item_id: str) -> ViewNames | None:
    """Return the names that an id is made of; None for an id of another making."""
    parts = item_id.split(SEPARATOR)
    if len(parts) != len(FIELDS) or not all(parts):
        return None
    return ViewNames(*(part.replace("%2E", SEPARATOR).replace("%25", "%") for part in parts))


class MeshCaller(Protocol):
    """A connection to a router, with its stubs."""

    @property
    def encoder(self) -> Any:
        """The stub of EncoderService."""

    @property
    def search(self) -> Any:
        """The stub of SearchService."""

    async def call(self, method: Any, request: Any, /) -> Any:
        """Make one unary call. Raises LensmeshError."""


async def find_or_make_collection(mesh: MeshCaller, name: str) -> search_pb2.Collection:
    """Return the collection. One that is not there is made.

    It has the default encoder's space and an index of each field. It keeps local features where encoders make them, so
    that matches are verified by geometry.

    Raises:
        PreconditionFailed: SPACE_NOT_SERVED, there is no encoder.
        LensmeshError: Any other failure.
    """
    asked = search_pb2.GetCollectionRequest(name=name)
    try:
        found: search_pb2.Collection = (await mesh.call(mesh.search.GetCollection, asked)).collection
    except NotFound:
        info: encoder_pb2.GetInfoResponse = await mesh.call(mesh.encoder.GetInfo, encoder_pb2.GetInfoRequest())
        request = search_pb2.CreateCollectionRequest(collection=_definition(name, info))
        try:
            found = (await mesh.call(mesh.search.CreateCollection, request)).collection
        except AlreadyExists:
            # Somebody else made it meanwhile, otherwise.
            found = (await mesh.call(mesh.search.GetCollection, asked)).collection
    return found


def _definition(name: str, info: encoder_pb2.GetInfoResponse) -> search_pb2.Collection:
    space = next((space for served in info.models for space in served.spaces), None)
    if space is None:
        raise PreconditionFailed(
            Reason.SPACE_NOT_SERVED, f"the mesh has no encoder, whose space the collection {name} would have: start one"
        )
    return search_pb2.Collection(
        name=name,
        spaces=[search_pb2.NamedSpace(name="image", space=space)],
        field_indexes=[search_pb2.FieldIndex(field=field, type=search_pb2.FIELD_TYPE_KEYWORD) for field in FIELDS],
        local_features=bool(info.local_feature_kind),
    )
