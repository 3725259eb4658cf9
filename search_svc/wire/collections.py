"""Translation of collections between the contract and the domain."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from lensmesh.common.v1 import common_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import to_status
from search_svc.filters import parse_metadata_path
from search_svc.model import (
    CountedCollection,
    Deferred,
    Definition,
    FieldIndex,
    FieldType,
    Hnsw,
    IndexState,
    IndexStatus,
    NamedSpace,
    StoredAs,
    VectorSpace,
)
from search_svc.wire.calibrations import write_calibration
from search_svc.wire.findings import Findings
from search_svc.wire.vectors import DATA_TYPES, STORED_AS
from search_svc.words.languages import LANGUAGES

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_SPACE_NAME = re.compile(r"[a-z0-9_]{1,63}")
_INDEXED_DIMENSIONS = {StoredAs.FLOAT32: 2_000, StoredAs.FLOAT16: 4_000}
_STORED_DIMENSIONS = 16_000
_MAX_SPACES = 32
# Of a bigint.
_MOST_ITEMS = 2**63 - 1
_MAX_MODALITIES = 16
_MAX_FIELD_INDEXES = 64
_MAX_TEXT_FIELDS = 16
_MAX_SPACE_TEXT = 1_000
_FIELD_TYPES = {
    search_pb2.FIELD_TYPE_KEYWORD: FieldType.KEYWORD,
    search_pb2.FIELD_TYPE_NUMBER: FieldType.NUMBER,
    search_pb2.FIELD_TYPE_BOOL: FieldType.BOOL,
    search_pb2.FIELD_TYPE_TIME: FieldType.TIME,
    search_pb2.FIELD_TYPE_TEXT: FieldType.TEXT,
}
_INDEX_STATES = {
    IndexState.DEFERRED: search_pb2.INDEX_STATE_DEFERRED,
    IndexState.BUILDING: search_pb2.INDEX_STATE_BUILDING,
    IndexState.BUILT: search_pb2.INDEX_STATE_BUILT,
}
_WIRE_FIELD_TYPES = {field_type: wire for wire, field_type in _FIELD_TYPES.items()}


def is_collection_name(name: str) -> bool:
    """Tell whether a collection may have this name."""
    return _NAME.fullmatch(name) is not None


def read_definition(collection: search_pb2.Collection) -> Definition:
    """Read and check a definition; fill in the defaults.

    Raises:
        InvalidInput: COLLECTION_INVALID, with every field that is wrong.
    """
    findings = Findings()
    if not is_collection_name(collection.name):
        _invalid(
            findings,
            "collection.name",
            "must be 1 to 63 of a-z, 0-9, - and _, beginning with a letter",
            collection.name,
        )
    if not 1 <= len(collection.spaces) <= _MAX_SPACES:
        _invalid(findings, "collection.spaces", f"has {len(collection.spaces)} spaces: name 1 to {_MAX_SPACES}")
    if len(collection.field_indexes) > _MAX_FIELD_INDEXES:
        _invalid(findings, "collection.field_indexes", f"has more than {_MAX_FIELD_INDEXES} fields")
    findings.check()
    spaces = [_space(space, f"collection.spaces[{i}]", findings) for i, space in enumerate(collection.spaces)]
    _no_name_twice([space.name for space in collection.spaces], "collection.spaces", "name", findings)
    indexes = [
        _index(index, f"collection.field_indexes[{i}]", findings) for i, index in enumerate(collection.field_indexes)
    ]
    _no_name_twice([index.field for index in collection.field_indexes], "collection.field_indexes", "field", findings)
    if sum(index.type == search_pb2.FIELD_TYPE_TEXT for index in collection.field_indexes) > _MAX_TEXT_FIELDS:
        _invalid(findings, "collection.field_indexes", f"has more than {_MAX_TEXT_FIELDS} fields of type TEXT")
    language = collection.language or Definition.language
    if language not in LANGUAGES:
        known = ", ".join(LANGUAGES)
        _invalid(findings, "collection.language", f"must be one of {known}", collection.language)
    findings.check()
    return Definition(
        collection.name,
        tuple(space for space in spaces if space),
        tuple(index for index in indexes if index),
        language,
        collection.local_features,
    )


def _space(named: search_pb2.NamedSpace, field: str, findings: Findings) -> NamedSpace | None:
    if not _SPACE_NAME.fullmatch(named.name):
        _invalid(findings, f"{field}.name", "must be 1 to 63 of a-z, 0-9 and _", named.name)
    space = named.space
    texts = {"id": space.id, "model": space.model, "weights_digest": space.weights_digest}
    for name, text in texts.items():
        if len(text) > _MAX_SPACE_TEXT or "\x00" in text:
            _invalid(
                findings, f"{field}.space.{name}", f"has a NUL character or more than {_MAX_SPACE_TEXT} characters"
            )
    if space.transparency not in common_pb2.TransparencyPolicy.values():
        _invalid(findings, f"{field}.space.transparency", f"is {space.transparency}: use one of TransparencyPolicy")
    if not space.id:
        _invalid(findings, f"{field}.space.id", "is empty: copy the VectorSpace that the encoder tells in GetInfo")
    if len(space.modalities) > _MAX_MODALITIES:
        _invalid(findings, f"{field}.space.modalities", f"has more than {_MAX_MODALITIES} entries")
        return None
    if named.index.stored_as not in (0, *STORED_AS):
        _invalid(findings, f"{field}.index.stored_as", f"is {named.index.stored_as}: use FLOAT16 or FLOAT32")
        return None
    stored_as = STORED_AS.get(named.index.stored_as, StoredAs.FLOAT16)
    flat = named.index.WhichOneof("kind") == "flat"
    limit = _STORED_DIMENSIONS if flat else _INDEXED_DIMENSIONS[stored_as]
    if not 1 <= space.dimension <= limit:
        how = "stored without index" if flat else f"indexed as {stored_as.name}"
        hint = (
            "" if flat else f" (FLOAT16: {_INDEXED_DIMENSIONS[StoredAs.FLOAT16]:,}; FlatIndex: {_STORED_DIMENSIONS:,})"
        )
        _invalid(
            findings,
            f"{field}.space.dimension",
            f"is {space.dimension}, and a vector {how} has 1 to {limit:,} dimensions{hint}",
        )
    if flat and named.index.HasField("deferred"):
        _invalid(findings, f"{field}.index.deferred", "is set, and there is no index to build: leave it out, or flat")
    hnsw = None if flat else _hnsw(named.index, f"{field}.index.hnsw", findings)
    kept = VectorSpace(
        **texts,
        dimension=space.dimension,
        normalized=space.normalized,
        modalities=tuple(space.modalities),
        transparency=space.transparency,
    )
    return NamedSpace(named.name, kept, stored_as, hnsw)


def _hnsw(index: search_pb2.VectorIndex, field: str, findings: Findings) -> Hnsw:
    hnsw = Hnsw(
        m=index.hnsw.m or Hnsw.m,
        ef_construction=index.hnsw.ef_construction or Hnsw.ef_construction,
        deferred=_deferred(index.deferred, field, findings) if index.HasField("deferred") else None,
    )
    for part, description in graph_problems(hnsw):
        _invalid(findings, f"{field}.{part}", description)
    return hnsw


def graph_problems(hnsw: Hnsw) -> Iterator[tuple[str, str]]:
    """Yield each field of an index that cannot be built, and what is wrong with it."""
    if not 2 <= hnsw.m <= 100:
        yield "m", f"is {hnsw.m}: use 2 to 100, or 0 for what is usual or there"
    elif not max(4, 2 * hnsw.m) <= hnsw.ef_construction <= 1_000:
        yield (
            "ef_construction",
            f"is {hnsw.ef_construction}: use 4 to 1,000, and at least twice m, here {2 * hnsw.m}",
        )


def _deferred(deferred: search_pb2.DeferredBuild, field: str, findings: Findings) -> Deferred:
    if deferred.at_item_count > _MOST_ITEMS:
        field = field.replace(".hnsw", ".deferred.at_item_count")
        _invalid(findings, field, f"is {deferred.at_item_count}: use at most {_MOST_ITEMS:,}, or 0 for never")
    return Deferred(deferred.at_item_count)


def _index(index: search_pb2.FieldIndex, field: str, findings: Findings) -> FieldIndex | None:
    field_type = _FIELD_TYPES.get(index.type)
    if field_type is None:
        _invalid(findings, f"{field}.type", "is not set: say KEYWORD, NUMBER, BOOL, TIME or TEXT")
    try:
        path = parse_metadata_path(index.field)
    except ValueError as error:
        _invalid(findings, f"{field}.field", str(error), index.field)
        return None
    return FieldIndex(path, field_type) if field_type else None


def _no_name_twice(names: list[str], field: str, part: str, findings: Findings) -> None:
    for i, name in enumerate(names):
        if name in names[:i]:
            _invalid(findings, f"{field}[{i}].{part}", f"{name!r} is named twice")


def _invalid(findings: Findings, field: str, description: str, value: str | None = None) -> None:
    told = "" if value is None else f", and is {value[:80]!r}"
    findings.invalid(Reason.COLLECTION_INVALID, field, description + told)


def write_collection(counted: CountedCollection) -> search_pb2.Collection:
    """Return a collection as callers see it."""
    definition = counted.collection.definition
    message = search_pb2.Collection(
        name=definition.name,
        item_count=counted.item_count,
        uid=counted.collection.uid,
        language=definition.language,
        local_features=definition.local_features,
    )
    write_time(counted.collection.create_time, message.create_time)
    for named in definition.spaces:
        space = message.spaces.add(name=named.name)
        space.space.id = named.space.id
        space.space.model = named.space.model
        space.space.weights_digest = named.space.weights_digest
        space.space.dimension = named.space.dimension
        space.space.normalized = named.space.normalized
        space.space.modalities.extend(named.space.modalities)  # type: ignore[arg-type]  # numbers as they were sent
        space.space.transparency = named.space.transparency  # type: ignore[assignment]  # the same
        space.index.stored_as = DATA_TYPES[named.stored_as]
        if named.hnsw:
            space.index.hnsw.m = named.hnsw.m
            space.index.hnsw.ef_construction = named.hnsw.ef_construction
            if named.hnsw.deferred:
                space.index.deferred.at_item_count = named.hnsw.deferred.at_item_count
                space.index.deferred.SetInParent()
            _write_status(counted.indexes.get(named.name, IndexStatus(IndexState.BUILT)), space.index_status)
        else:
            space.index.flat.SetInParent()
        for calibration in counted.collection.calibrations.get(named.name, ()):
            write_calibration(calibration, space.calibrations.add())
    for index in definition.field_indexes:
        message.field_indexes.add(field=index.name, type=_WIRE_FIELD_TYPES[index.type])
    return message


def _write_status(status: IndexStatus, message: search_pb2.IndexStatus) -> None:
    message.state = _INDEX_STATES[status.state]
    message.progress = status.progress
    if status.error is not None:
        message.error.CopyFrom(to_status(status.error))


def write_time(moment: datetime, message: Timestamp) -> None:
    """Fill a message with an aware time."""
    since = moment - _EPOCH
    message.seconds = since.days * 86_400 + since.seconds
    message.nanos = since.microseconds * 1000
