"""The spaces of a collection that images can be placed in by an encoder of this mesh."""

from collections.abc import Sequence

from lensmesh.common.v1 import common_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import PreconditionFailed
from lensmesh_chassis.reasons import Reason
from router_svc.model_directory import ModelDirectory


async def served_spaces(spaces: Sequence[search_pb2.NamedSpace], directory: ModelDirectory) -> tuple[str, ...]:
    """Return the names of those of `spaces` that images can be placed in here; one at least.

    Raises PreconditionFailed with reason SPACE_NOT_SERVED where there is none, Unavailable where one that has not told
    yet what it serves may serve it.
    """
    names: list[str] = []
    refusal: PreconditionFailed | None = None
    for named in spaces:
        if named.space.modalities and common_pb2.MODALITY_IMAGE not in named.space.modalities:
            continue
        try:
            # Unavailable is let out: somebody who has not told yet may serve it, and items without that vector would be
            # stored as if nobody did.
            await directory.encoders(named.space.id)
        except PreconditionFailed as error:
            refusal = refusal or error
        else:
            names.append(named.name)
    if names:
        return tuple(names)
    if refusal is not None:
        raise refusal
    raise PreconditionFailed(
        Reason.SPACE_NOT_SERVED,
        "the collection has no space for images: its spaces hold texts only",
    )
