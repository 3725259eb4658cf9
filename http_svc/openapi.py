"""The OpenAPI document: operations of the REST face as their models tell them, and RPCs as their descriptors do."""

import importlib.metadata
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, TypeAdapter

from http_svc.connect.methods import ConnectMethod
from http_svc.message_schemas import MessageSchemas
from http_svc.rest.operations import FORM, JSON, NDJSON, PartField, RestOperation
from http_svc.rest.shapes import FailureShape

_SEGMENT = {"type": "string", "minLength": 1}
_REF = "#/components/schemas/{model}"
_TAGS = {
    "search": "Finding images.",
    "images": "Images: made findable, shown, removed.",
    "models": "The models themselves, without storing anything.",
    "collections": "Sets of images.",
    "jobs": "Work that takes longer than a request.",
    "status": "The mesh.",
    "rpc": "Every unary and server-streaming method of the contracts, by the Connect protocol.",
}


def openapi_document(operations: Sequence[RestOperation], methods: Mapping[str, ConnectMethod]) -> dict[str, Any]:
    """Return the document, OpenAPI 3.1."""
    types = _Types(operations)
    paths: dict[str, dict[str, Any]] = {}
    for each in operations:
        paths.setdefault(each.path, {})[each.method.lower()] = _operation(each, types)
    messages = MessageSchemas()
    for path, method in methods.items():
        if not method.client_streams:
            paths[path] = {"post": _rpc(path, method, messages)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "lensmesh",
            "version": importlib.metadata.version("lensmesh"),
            "description": "Turns images into vectors, captions and search. What stands under `rpc` is the gRPC "
            "contract itself; all else is a plain face of it.",
        },
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": paths,
        "components": {"schemas": _used(paths, types.definitions | messages.definitions)},
    }


def _used(paths: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the definitions that the paths refer to, and those that these refer to."""
    found: dict[str, Any] = {}
    left = _refs(paths)
    while left:
        name = left.pop()
        if name not in found:
            found[name] = definitions[name]
            left |= _refs(definitions[name])
    return dict(sorted(found.items()))


def _refs(value: Any) -> set[str]:
    if isinstance(value, list):
        return set().union(*map(_refs, value))
    if not isinstance(value, dict):
        return set()
    own = {value["$ref"].rpartition("/")[2]} if isinstance(value.get("$ref"), str) else set()
    return own.union(*map(_refs, value.values()))


class _Types:
    """Schemas of all models and shapes, with their definitions in one place."""

    def __init__(self, operations: Sequence[RestOperation]) -> None:
        wanted: list[Any] = [FailureShape]
        for each in operations:
            wanted += [each.parameters, each.body, *each.answers.values()]
        known = list(dict.fromkeys(each for each in wanted if each not in (None, bytes)))
        inputs = [(each, "validation", TypeAdapter(each)) for each in known]
        schemas, told = TypeAdapter.json_schemas(inputs, by_alias=True, ref_template=_REF)  # type: ignore[arg-type]  # a list
        self._schemas = {key: _without_titles(schema) for (key, _), schema in schemas.items()}
        self.definitions: dict[str, Any] = {
            name: _without_titles(schema) for name, schema in told.get("$defs", {}).items()
        }

    def __getitem__(self, model: Any) -> dict[str, Any]:
        schema: dict[str, Any] = self._schemas[model]
        return schema

    def properties(self, model: type[BaseModel]) -> tuple[dict[str, Any], list[str]]:
        """Return the properties of a model, and which of them are required."""
        schema = self._schemas[model]
        if "$ref" in schema:
            schema = self.definitions[schema["$ref"].rpartition("/")[2]]
        return schema.get("properties", {}), schema.get("required", [])


def _without_titles(schema: Any) -> Any:
    """Return a schema without pydantic's titles, which repeat the names."""
    if isinstance(schema, dict):
        return {
            key: _without_titles(value) for key, value in schema.items() if key != "title" or isinstance(value, dict)
        }
    return [_without_titles(each) for each in schema] if isinstance(schema, list) else schema


def _operation(each: RestOperation, types: _Types) -> dict[str, Any]:
    told: dict[str, Any] = {"operationId": each.name, "tags": [each.tag], "summary": each.summary}
    if each.description:
        told["description"] = each.description
    parameters = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": text,
            "schema": {"type": "string", "minLength": 1},
        }
        for name, text in each.path_parameters.items()
    ]
    if each.parameters is not None:
        parameters += _query(each, types)
    if parameters:
        told["parameters"] = parameters
    if each.body is not None or each.parts:
        told["requestBody"] = {"required": each.body_required, "content": _bodies(each, types)}
    told["responses"] = {str(status): _answer(status, kind, each, types) for status, kind in each.answers.items()}
    told["responses"]["default"] = _answer(0, FailureShape, each, types)
    return told


def _query(each: RestOperation, types: _Types) -> list[dict[str, Any]]:
    assert each.parameters is not None
    commas: frozenset[str] = getattr(each.parameters, "commas", frozenset())
    properties, required = types.properties(each.parameters)
    shown = each.examples[0].query if each.examples else {}
    told = []
    for name, schema in properties.items():
        one = {"name": name, "in": "query", "required": name in required, "schema": schema}
        if description := schema.get("description"):
            one["description"] = description
        if schema.get("type") == "array":
            one |= {"style": "form", "explode": name not in commas}
            one["required"] = False
        if name in shown:
            given = shown[name]
            one["example"] = given if schema.get("type") != "array" or isinstance(given, list) else [given]
        told.append(one)
    return told


def _bodies(each: RestOperation, types: _Types) -> dict[str, Any]:
    told: dict[str, Any] = {}
    if each.parts:
        told[FORM] = {"schema": _form(each.parts)}
    if each.body is not None:
        told[NDJSON if each.lines else JSON] = {"schema": types[each.body]}
        examples = {example.name: {"value": example.json} for example in each.examples if example.json is not None}
        if examples and not each.lines:
            told[JSON]["examples"] = examples
    return told


def _form(parts: Sequence[PartField]) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for part in parts:
        one: dict[str, Any] = {"type": "string", "description": part.description}
        if part.file:
            one["contentMediaType"] = "application/octet-stream"
        properties[part.name] = {"type": "array", "items": one} if part.many else one
    return {
        "type": "object",
        "properties": properties,
        "required": [part.name for part in parts if part.required],
        "additionalProperties": False,
    }


def _answer(status: int, kind: Any, each: RestOperation, types: _Types) -> dict[str, Any]:
    if kind is None:
        return {"description": "Done." if status < 300 else "It is at the address that Location names."}
    content: dict[str, Any]
    if kind is bytes:
        content = {media_type: {} for media_type in each.media_types}
        return {"description": "A file.", "content": content}
    media_types = (JSON,) if kind is FailureShape else each.media_types
    schema = types[kind]
    content = {name: {"schema": schema if name == JSON else _pieces(schema)} for name in media_types}
    return {"description": "It failed." if kind is FailureShape else "The answer.", "content": content}


def _pieces(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a body of lines or of events: OpenAPI 3.1 has no word for those."""
    return {"type": "string", "description": "JSON a line, or an event.", "x-each": schema}


def _rpc(path: str, method: ConnectMethod, messages: MessageSchemas) -> dict[str, Any]:
    _, service, name = re.split(r"[/]", path)
    asked: Any = method.request.DESCRIPTOR
    told: Any = method.response.DESCRIPTOR
    answer = messages.ref(told)
    media_type = NDJSON if method.server_streams else JSON
    failure = {"type": "object", "properties": {"code": {"type": "string"}, "message": {"type": "string"}}}
    return {
        "operationId": path.strip("/").replace("/", "."),
        "tags": ["rpc"],
        "summary": f"{service.rpartition('.')[2]}.{name}",
        "requestBody": {
            "required": True,
            "content": {JSON: {"schema": messages.ref(asked)}},
        },
        "responses": {
            "200": {
                "description": "The answer." if not method.server_streams else "An answer a line.",
                "content": {media_type: {"schema": _pieces(answer) if method.server_streams else answer}},
            },
            "default": {"description": "It failed.", "content": {JSON: {"schema": failure}}},
        },
    }
