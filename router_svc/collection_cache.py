"""Definitions of collections: remembered for a moment, made where ingest needs one that is not there."""

import asyncio
import functools
from collections import OrderedDict

from lensmesh.common.v1 import common_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import AlreadyExists, LensmeshError, NotFound, Violation
from lensmesh_chassis.reasons import Reason
from router_svc.call_scope import CallScope
from router_svc.model_directory import ModelDirectory
from router_svc.upstreams.methods import CREATE_COLLECTION, GET_COLLECTION
from router_svc.upstreams.pool import UpstreamPool

# Callers choose the names: what is remembered must not grow with them.
MOST = 1024
IMAGE_SPACE = "image"


class CollectionCache:
    """Knowledge that the router has of the store's collections."""

    def __init__(self, stores: UpstreamPool, directory: ModelDirectory, *, default: str, believed_s: float) -> None:
        self._stores = stores
        self._directory = directory
        self._default = default
        self._believed_s = believed_s
        self._known: OrderedDict[str, tuple[float, search_pb2.Collection]] = OrderedDict()

    def name(self, named: str) -> str:
        """Return the collection that a request means."""
        return named or self._default

    def forget(self, name: str) -> None:
        """Ask the store next time: what is remembered turned out to be wrong."""
        self._known.pop(name, None)

    async def get(self, name: str, scope: CallScope) -> search_pb2.Collection:
        """Return the definition of a collection. NotFound with reason COLLECTION_NOT_FOUND if there is none."""
        known = self._known.get(name)
        if known is not None and asyncio.get_running_loop().time() - known[0] < self._believed_s:
            return known[1]
        try:
            answer = await self._stores.call_patiently(
                GET_COLLECTION, search_pb2.GetCollectionRequest(name=name), scope
            )
        except LensmeshError as error:
            raise _of_the_request(error, "collection") from error
        return self._remember(answer.collection)

    async def ensure(
        self,
        name: str,
        transparency: common_pb2.TransparencyPolicy.ValueType,
        scope: CallScope,
        *,
        deferred: bool = False,
        local_features: bool = False,
    ) -> search_pb2.Collection:
        """Return the definition of a collection, made with one space of the default encoder if it is not there.

        `transparency` is that space's policy; unspecified means the default space's. `deferred` leaves its index for
        later. `local_features` has its items keep theirs; a store of an older release makes it without.
        """
        try:
            return await self.get(name, scope)
        except NotFound:
            pass
        space = await self._stores.patiently(functools.partial(self._directory.space_with, transparency), scope)
        wanted = search_pb2.Collection(name=name, spaces=[search_pb2.NamedSpace(name=IMAGE_SPACE, space=space)])
        if deferred:
            wanted.spaces[0].index.deferred.SetInParent()
        wanted.local_features = local_features
        try:
            answer = await self._stores.call_patiently(
                CREATE_COLLECTION, search_pb2.CreateCollectionRequest(collection=wanted), scope
            )
        except AlreadyExists:
            # Somebody made it a moment ago, with other spaces.
            return await self.get(name, scope)
        except LensmeshError as error:
            raise _of_the_request(error, "options.collection") from error
        return self._remember(answer.collection)

    def _remember(self, collection: search_pb2.Collection) -> search_pb2.Collection:
        self._known[collection.name] = (asyncio.get_running_loop().time(), collection)
        self._known.move_to_end(collection.name)
        while len(self._known) > MOST:
            self._known.popitem(last=False)
        return collection


def _of_the_request(error: LensmeshError, field: str) -> LensmeshError:
    """Tell of a refused name as the caller wrote it."""
    if error.reason is not Reason.COLLECTION_INVALID or not error.violations:
        return error
    violations = [Violation(field, violation.description) for violation in error.violations]
    return type(error)(error.reason, error.message, violations=violations, metadata=error.metadata)
