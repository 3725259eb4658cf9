"""Definitions of collections, as every store keeps and compares them."""

import json
from dataclasses import asdict, replace
from typing import Any

from lensmesh_chassis.errors import AlreadyExists
from lensmesh_chassis.reasons import Reason
from search_svc.model import (
    Deferred,
    Definition,
    FieldIndex,
    FieldType,
    Hnsw,
    NamedSpace,
    StoredAs,
    VectorSpace,
    is_same_index,
)


def definition_to_json(definition: Definition) -> str:
    """Write a definition, all but its name, as the text that stores keep."""
    spaces = [
        {
            "name": named.name,
            "stored_as": named.stored_as.value,
            "hnsw": named.hnsw and _graph(named.hnsw),
            # Beside it: releases before it read what is not there.
            **({"deferred": asdict(named.hnsw.deferred)} if named.hnsw and named.hnsw.deferred else {}),
            **({"made_with": _graph(named.hnsw.made_with)} if named.hnsw and named.hnsw.made_with else {}),
            "space": {
                "id": named.space.id,
                "model": named.space.model,
                "weights_digest": named.space.weights_digest,
                "dimension": named.space.dimension,
                "normalized": named.space.normalized,
                "modalities": list(named.space.modalities),
                # Only where it is said: releases before it read what has no such key.
                **({"transparency": named.space.transparency} if named.space.transparency else {}),
            },
        }
        for named in definition.spaces
    ]
    indexes = [{"path": list(index.path), "type": index.type.value} for index in definition.field_indexes]
    kept: dict[str, Any] = {"spaces": spaces, "field_indexes": indexes}
    if definition.language:
        # Without it there are no words, as before there were any.
        kept["language"] = definition.language
    if definition.local_features:
        kept["local_features"] = True
    return json.dumps(kept)


def definition_from_json(name: str, text: str) -> Definition:
    """Read a definition from the text that a store kept."""
    kept: dict[str, Any] = json.loads(text)
    spaces = tuple(
        NamedSpace(
            name=entry["name"],
            space=VectorSpace(**{**entry["space"], "modalities": tuple(entry["space"]["modalities"])}),
            stored_as=StoredAs(entry["stored_as"]),
            hnsw=Hnsw(**entry["hnsw"], deferred=_deferred(entry), made_with=_made_with(entry))
            if entry["hnsw"]
            else None,
        )
        for entry in kept["spaces"]
    )
    indexes = tuple(FieldIndex(tuple(entry["path"]), FieldType(entry["type"])) for entry in kept["field_indexes"])
    return Definition(name, spaces, indexes, kept.get("language", ""), kept.get("local_features", False))


def _graph(hnsw: Hnsw) -> dict[str, int]:
    return {"m": hnsw.m, "ef_construction": hnsw.ef_construction}


def _made_with(entry: dict[str, Any]) -> Hnsw | None:
    return Hnsw(**entry["made_with"]) if "made_with" in entry else None


def with_index(definition: Definition, space: str, hnsw: Hnsw) -> Definition:
    """Return the definition whose space is indexed with other parameters. It remembers those that it was made with."""

    def changed(named: NamedSpace) -> NamedSpace:
        if named.name != space or named.hnsw is None or named.hnsw == hnsw:
            return named
        first = named.hnsw.made_with or Hnsw(named.hnsw.m, named.hnsw.ef_construction)
        return replace(named, hnsw=replace(hnsw, deferred=named.hnsw.deferred, made_with=first))

    return replace(definition, spaces=tuple(changed(named) for named in definition.spaces))


def _deferred(entry: dict[str, Any]) -> Deferred | None:
    return Deferred(**entry["deferred"]) if "deferred" in entry else None


def check_same(there: Definition, wanted: Definition) -> None:
    """Raise AlreadyExists (COLLECTION_EXISTS) unless the stored definition keeps and finds the same as `wanted`."""
    if there.serves_as(wanted):
        return
    raise AlreadyExists(
        Reason.COLLECTION_EXISTS,
        f"the collection {wanted.name} exists with another definition"
        f" ({_difference(there, wanted)}): take another name, or delete it first",
        field="collection.name",
        metadata={"collection": wanted.name},
    )


def _difference(there: Definition, wanted: Definition) -> str:
    """Return the first thing in which two definitions differ, in words."""
    if [named.name for named in there.spaces] != [named.name for named in wanted.spaces]:
        return f"its spaces are {', '.join(named.name for named in there.spaces)}"
    for old, new in zip(there.spaces, wanted.spaces, strict=True):
        if old.space.id != new.space.id:
            return f"{old.name} is of the space {old.space.id}, not {new.space.id}"
        if (old.space.dimension, old.space.normalized) != (new.space.dimension, new.space.normalized):
            return f"{old.name} has {old.space.dimension} dimensions, normalized {old.space.normalized}"
        if old.stored_as != new.stored_as:
            return f"{old.name} is stored as {old.stored_as}"
        if not is_same_index(old.hnsw, new.hnsw):
            return f"{old.name} is indexed by {old.hnsw or 'nothing'}"
    if (there.language or Definition.language) != (wanted.language or Definition.language):
        return f"its language is {there.language or Definition.language}"
    if wanted.local_features and not there.local_features:
        return "it keeps no local features"
    return (
        f"its field indexes are {', '.join(f'{index.name} ({index.type})' for index in there.field_indexes) or 'none'}"
    )
