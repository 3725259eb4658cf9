"""Collections, as a client reaches them: `Client.collections`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lensmesh.encoder.v1 import encoder_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import PreconditionFailed
from lensmesh_chassis.reasons import Reason
from lensmesh_client import translate_stored
from lensmesh_client.connection import Connection
from lensmesh_client.guard import building, check_text
from lensmesh_client.mesh import Space
from lensmesh_client.stored import Collection, FieldType, NamedSpace


class CollectionCalls:
    """The named sets of items that a mesh keeps. An ingest makes those that are missing; here they are made by hand."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def create(
        self,
        name: str,
        *,
        spaces: Mapping[str, Space] | Iterable[NamedSpace] | None = None,
        fields: Mapping[str, FieldType | str] | None = None,
        timeout_s: float | None = None,
    ) -> Collection:
        """Make an empty collection; the same definition again is answered with what is there.

        Args:
            name: 1 to 63 of a-z, 0-9, "-" and "_", beginning with a letter.
            spaces: The kinds of vectors that items may have: spaces by name, or `NamedSpace`s, which also tell how
                vectors are indexed and stored. None is one space, "image", of the mesh's default encoder.
            fields: Metadata fields that facets count and filters use often, with the type of their values.
            timeout_s: Seconds until an answer; None is the client's own.

        Returns:
            The collection as it stands.

        Raises:
            AlreadyExists: The name is taken by another definition.
            InvalidInput: The definition cannot be made.
            LensmeshError: Any other failure.
        """
        with building("collection"):
            definition = search_pb2.Collection(
                name=check_text(name, "name", Reason.COLLECTION_INVALID),
                spaces=None if spaces is None else _spaces(spaces),
                field_indexes=translate_stored.field_indexes(fields or {}),
            )
        if spaces is None:
            definition.spaces.append(await self._default_space(timeout_s))
        request = search_pb2.CreateCollectionRequest(collection=definition)
        answer = await self._connection.call(self._connection.search.CreateCollection, request, timeout_s)
        return translate_stored.collection(answer.collection)

    async def get(self, name: str = "", *, timeout_s: float | None = None) -> Collection:
        """Describe one collection.

        Args:
            name: Its name; empty means the mesh's default.
            timeout_s: Seconds until an answer; None is the client's own.

        Returns:
            Its definition and how many items it has.

        Raises:
            NotFound: There is no collection of that name.
            LensmeshError: Any other failure.
        """
        request = search_pb2.GetCollectionRequest(name=await self._connection.collection(name, timeout_s))
        answer = await self._connection.call(self._connection.search.GetCollection, request, timeout_s)
        return translate_stored.collection(answer.collection)

    async def list(self, *, timeout_s: float | None = None) -> tuple[Collection, ...]:
        """Describe all collections.

        Args:
            timeout_s: Seconds until the answer of each page; None is the client's own.

        Returns:
            All of them, by name.

        Raises:
            LensmeshError: Whatever failed.
        """
        found: tuple[Collection, ...] = ()
        token = ""
        while True:
            request = search_pb2.ListCollectionsRequest(page_token=token)
            page = await self._connection.call(self._connection.search.ListCollections, request, timeout_s)
            found += tuple(translate_stored.collection(each) for each in page.collections)
            if not (token := page.next_page_token):
                return found

    async def delete(self, name: str, *, timeout_s: float | None = None) -> int:
        """Remove a collection with all its items; one that is not there is no error.

        Args:
            name: Its name.
            timeout_s: Seconds until an answer; None is the client's own.

        Returns:
            How many items went with it.

        Raises:
            InvalidInput: The name is none.
            LensmeshError: Any other failure.
        """
        request = search_pb2.DeleteCollectionRequest(name=check_text(name, "name", Reason.COLLECTION_INVALID))
        answer = await self._connection.call(self._connection.search.DeleteCollection, request, timeout_s)
        return answer.deleted_count

    async def _default_space(self, timeout_s: float | None) -> search_pb2.NamedSpace:
        """Ask for the space that an ingest would take: the default encoder's own."""
        request = encoder_pb2.GetInfoRequest()
        info = await self._connection.call(self._connection.encoder.GetInfo, request, timeout_s)
        space = next((space for served in info.models for space in served.spaces), None)
        if space is None:
            raise PreconditionFailed(
                Reason.SPACE_NOT_SERVED, "the mesh has no encoder to take a space from: name the collection's spaces"
            )
        return search_pb2.NamedSpace(name="image", space=space)


def _spaces(spaces: Mapping[str, Space] | Iterable[NamedSpace]) -> list[search_pb2.NamedSpace]:
    if isinstance(spaces, Mapping):
        spaces = [NamedSpace(name, space) for name, space in spaces.items()]
    return [translate_stored.named_space(space) for space in spaces]
