"""Collections and items between the contracts' messages and the client's own classes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lensmesh.common.v1 import common_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import from_status
from lensmesh_client import stored, translate, translate_mesh, types
from lensmesh_client.calibrations import calibrations
from lensmesh_client.guard import check_text
from lensmesh_client.hashes import hash_message
from lensmesh_client.local_features import KINDS, features_message, features_of
from lensmesh_client.metadata import MAX_DEPTH, struct
from lensmesh_client.requests import chosen

FIELD_TYPES = {
    stored.FieldType.KEYWORD: search_pb2.FIELD_TYPE_KEYWORD,
    stored.FieldType.NUMBER: search_pb2.FIELD_TYPE_NUMBER,
    stored.FieldType.BOOL: search_pb2.FIELD_TYPE_BOOL,
    stored.FieldType.TIME: search_pb2.FIELD_TYPE_TIME,
    stored.FieldType.TEXT: search_pb2.FIELD_TYPE_TEXT,
}
INDEX_STATES = {
    search_pb2.INDEX_STATE_DEFERRED: stored.IndexState.DEFERRED,
    search_pb2.INDEX_STATE_BUILDING: stored.IndexState.BUILDING,
    search_pb2.INDEX_STATE_BUILT: stored.IndexState.BUILT,
}
_OF_NUMBER = {number: word for word, number in FIELD_TYPES.items()}


def collection(message: search_pb2.Collection) -> stored.Collection:
    """Translate a collection."""
    return stored.Collection(
        name=message.name,
        spaces=tuple(_named_space(each) for each in message.spaces),
        # A newer service may know of types that this client has no word for.
        fields={each.field: _OF_NUMBER[each.type] for each in message.field_indexes if each.type in _OF_NUMBER},
        item_count=message.item_count,
        create_time=translate.moment(message.create_time) if message.HasField("create_time") else None,
        uid=message.uid,
        language=message.language,
        local_features=message.local_features,
        indexes={
            each.name: _index_status(each.index_status)
            for each in message.spaces
            if each.index_status.state in INDEX_STATES
        },
        calibrations={each.name: calibrations(each.calibrations) for each in message.spaces if each.calibrations},
    )


def _index_status(message: search_pb2.IndexStatus) -> stored.IndexStatus:
    error = from_status(message.error) if message.HasField("error") else None
    return stored.IndexStatus(INDEX_STATES[message.state], message.progress, error)


def _named_space(message: search_pb2.NamedSpace) -> stored.NamedSpace:
    return stored.NamedSpace(
        name=message.name,
        space=translate_mesh.space(message.space),
        half_precision=message.index.stored_as != common_pb2.DATA_TYPE_FLOAT32,
        indexed=message.index.WhichOneof("kind") != "flat",
        hnsw_m=message.index.hnsw.m,
        hnsw_ef_construction=message.index.hnsw.ef_construction,
        deferred=message.index.HasField("deferred"),
        build_at=message.index.deferred.at_item_count,
    )


def named_space(space: stored.NamedSpace) -> search_pb2.NamedSpace:
    """Make the message of a collection's space."""
    index = search_pb2.VectorIndex(
        stored_as=common_pb2.DATA_TYPE_FLOAT16 if space.half_precision else common_pb2.DATA_TYPE_FLOAT32
    )
    if space.indexed:
        index.hnsw.CopyFrom(search_pb2.HnswIndex(m=space.hnsw_m, ef_construction=space.hnsw_ef_construction))
    else:
        index.flat.SetInParent()
    if space.deferred:
        index.deferred.CopyFrom(search_pb2.DeferredBuild(at_item_count=space.build_at))
    return search_pb2.NamedSpace(name=space.name, space=translate_mesh.space_message(space.space), index=index)


def field_indexes(fields: Mapping[str, stored.FieldType | str]) -> list[search_pb2.FieldIndex]:
    """Make the messages of indexed fields. Raises InvalidInput for a type that is not known."""
    return [
        search_pb2.FieldIndex(field=name, type=chosen("fields", kind, stored.FieldType, FIELD_TYPES))
        for name, kind in fields.items()
    ]


def item(message: search_pb2.Item) -> stored.Item:
    """Translate an item; vectors whose numbers were not asked for are left out."""
    return stored.Item(
        id=message.id,
        vectors=_embeddings(message),
        caption=translate.caption(message.caption) if message.HasField("caption") else None,
        # The contract's maps have no order of their own.
        metadata={key: translate.plain(value) for key, value in sorted(message.metadata.fields.items())},
        image_uri=message.image_uri,
        content_digest=message.content_digest.hex(),
        low_content=message.low_content,
        perceptual_hash=translate.perceptual_hash(message),
        local_features=features_of(message.local_features) if message.HasField("local_features") else None,
        local_feature_kind=KINDS.get(message.local_feature_kind),
        create_time=translate.moment(message.create_time) if message.HasField("create_time") else None,
        update_time=translate.moment(message.update_time) if message.HasField("update_time") else None,
    )


def _embeddings(message: search_pb2.Item) -> dict[str, types.Embedding]:
    found = {name: value for name, value in sorted(message.vectors.items()) if value.data or value.floats}
    if not found:
        return {}
    from lensmesh_client.vectors import vector

    return {name: types.Embedding(vector(value), value.space_id) for name, value in found.items()}


def item_message(value: stored.Item, path: str, max_depth: int = MAX_DEPTH) -> search_pb2.Item:
    """Make the message of an item. Raises InvalidInput that names what of it cannot be sent."""
    message = search_pb2.Item(
        id=check_text(value.id, f"{path}.id", Reason.ITEM_ID_INVALID),
        metadata=struct(value.metadata, max_depth) if value.metadata else None,
        image_uri=check_text(value.image_uri, f"{path}.image_uri"),
        content_digest=_digest(value.content_digest, f"{path}.content_digest"),
        low_content=value.low_content,
    )
    if value.perceptual_hash is not None:
        message.perceptual_hash.CopyFrom(hash_message(value.perceptual_hash, f"{path}.perceptual_hash"))
    if value.local_features is not None:
        message.local_features.CopyFrom(features_message(value.local_features, f"{path}.local_features"))
    if value.caption is not None:
        message.caption.text = check_text(value.caption.text, f"{path}.caption.text")
        message.caption.confidence = value.caption.confidence
        message.caption.token_count = value.caption.token_count
        message.caption.truncated = value.caption.truncated
        message.caption.model = check_text(value.caption.model, f"{path}.caption.model")
    if value.vectors:
        from lensmesh_client import vectors

        for name, embedding in value.vectors.items():
            space_id = check_text(embedding.space_id, f"{path}.vectors[{name!r}].space_id")
            message.vectors[name].CopyFrom(vectors.embedding(embedding.vector, space_id))
    return message


def _digest(text: str, path: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except (ValueError, TypeError) as error:
        raise InvalidInput(Reason.DIGEST_INVALID, f"{path} is no hexadecimal number: {error}", field=path) from error


def written(message: search_pb2.UpsertResult) -> stored.WrittenItem:
    """Translate what became of an item."""
    return stored.WrittenItem(
        id=message.id,
        outcome=translate.OUTCOMES.get(message.outcome),
        changes=tuple(translate.CHANGES[change] for change in message.changes if change in translate.CHANGES),
        update_time=translate.moment(message.update_time) if message.HasField("update_time") else None,
    )


def facets(messages: Iterable[search_pb2.Facet]) -> tuple[stored.Facet, ...]:
    """Translate facets."""
    return tuple(
        stored.Facet(
            message.field,
            tuple(stored.FacetCount(translate.plain(each.value), each.count) for each in message.counts),
            message.other_count,
        )
        for message in messages
    )
