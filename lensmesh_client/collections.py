"""Collections, as a client reaches them: `Client.collections`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping

from lensmesh.encoder.v1 import encoder_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import PreconditionFailed
from lensmesh_chassis.reasons import Reason
from lensmesh_client import translate_stored
from lensmesh_client.connection import Connection
from lensmesh_client.guard import building, check_text
from lensmesh_client.mesh import Space
from lensmesh_client.stored import Collection, FieldType, IndexState, NamedSpace

# Between two looks at a build, first and longest.
_PAUSES_S = (0.1, 2.0)


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
        deferred: bool = False,
        language: str = "",
        local_features: bool = False,
        timeout_s: float | None = None,
    ) -> Collection:
        """Make an empty collection; the same definition again is answered with what is there.

        Args:
            name: 1 to 63 of a-z, 0-9, "-" and "_", beginning with a letter.
            spaces: The kinds of vectors that items may have: spaces by name, or `NamedSpace`s, which also tell how
                vectors are indexed and stored. None is one space, "image", of the mesh's default encoder.
            fields: Metadata fields that facets count and filters use often, with the type of their values.
            deferred: Leave the indexes of all spaces for `build_index`, as `NamedSpace.deferred` does for one: a
                large collection is filled several times as fast.
            language: Of captions and of fields of type TEXT, an ISO 639-1 code, so that "dog" finds "dogs"; "none" for
                words as they are written. Empty is "en".
            local_features: Have items keep their local features, some 16 kB each, by which matches are verified; an
                ingest makes them.
            timeout_s: Seconds until an answer; None is the client's own.

        Returns:
            The collection as it stands.

        Raises:
            AlreadyExists: The name is taken by another definition.
            InvalidInput: The definition cannot be made.
            PreconditionFailed: The search service is of an older release and keeps no local features; the collection
                was made without.
            LensmeshError: Any other failure.
        """
        with building("collection"):
            definition = search_pb2.Collection(
                name=check_text(name, "name", Reason.COLLECTION_INVALID),
                spaces=None if spaces is None else _spaces(spaces),
                field_indexes=translate_stored.field_indexes(fields or {}),
                language=check_text(language, "language", Reason.COLLECTION_INVALID),
                local_features=local_features,
            )
        if spaces is None:
            definition.spaces.append(await self._default_space(timeout_s))
        if deferred:
            for space in definition.spaces:
                space.index.deferred.SetInParent()
        request = search_pb2.CreateCollectionRequest(collection=definition)
        answer = await self._connection.call(self._connection.search.CreateCollection, request, timeout_s)
        if local_features and not answer.collection.local_features:
            raise PreconditionFailed(
                Reason.FEATURES_NOT_KEPT,
                f"local_features: the search service is of an older release and made {name} without: delete that, and"
                " update the service",
                field="collection.local_features",
                metadata={"collection": name},
            )
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

    async def build_index(
        self,
        name: str = "",
        *,
        wait: bool = True,
        on_progress: Callable[[float], None] | None = None,
        timeout_s: float | None = None,
    ) -> Collection:
        """Build the indexes that were left for later. Reads and writes go on meanwhile.

        The work is the store's: it goes on whoever stops waiting for it. Indexes that are built stay as they are.

        Args:
            name: The collection's name; empty means the mesh's default.
            wait: Whether to return when they are built, or as soon as the mesh knows that they shall be.
            on_progress: Told now and then while they are built: about how much of it is done, 0 to 1.
            timeout_s: Seconds until the answer of each call; None is the client's own. The whole has no limit.

        Returns:
            The collection as it stands.

        Raises:
            NotFound: There is no collection of that name.
            Unavailable: The build failed, because the store's disk is full, say; the service tries again by itself.
            LensmeshError: Any other failure.
        """
        name = await self._connection.collection(name, timeout_s)
        request = search_pb2.BuildIndexesRequest(collection=name)
        answer = await self._connection.call(self._connection.search.BuildIndexes, request, timeout_s)
        collection = translate_stored.collection(answer.collection)
        pause_s = _PAUSES_S[0]
        while wait and any(status.state is not IndexState.BUILT for status in collection.indexes.values()):
            if error := next((status.error for status in collection.indexes.values() if status.error), None):
                raise error
            if on_progress is not None:
                on_progress(_progress(collection))
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _PAUSES_S[1])
            collection = await self.get(name, timeout_s=timeout_s)
        return collection

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


def _progress(collection: Collection) -> float:
    """Return how much of the work on all indexes is done."""
    parts = [1.0 if status.state is IndexState.BUILT else status.progress for status in collection.indexes.values()]
    return sum(parts) / len(parts)


def _spaces(spaces: Mapping[str, Space] | Iterable[NamedSpace]) -> list[search_pb2.NamedSpace]:
    if isinstance(spaces, Mapping):
        spaces = [NamedSpace(name, space) for name, space in spaces.items()]
    return [translate_stored.named_space(space) for space in spaces]
