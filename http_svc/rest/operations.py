"""Operations of the REST face: of each one value come its route and its part of the OpenAPI document."""

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Scope

Handler = Callable[[Request], Awaitable[Response]]

JSON = "application/json"
FORM = "multipart/form-data"
NDJSON = "application/x-ndjson"
SSE = "text/event-stream"


@dataclass(frozen=True, slots=True)
class PartField:
    """A part of a multipart body, for people who read the document."""

    name: str
    description: str
    file: bool = False
    required: bool = False
    many: bool = False


@dataclass(frozen=True, slots=True)
class OperationExample:
    """A request that a test sends to a running mesh, and that the document shows."""

    name: str
    path: dict[str, str] = field(default_factory=dict)
    query: dict[str, Any] = field(default_factory=dict)
    json: Any = None
    """The body, as JSON."""
    parts: tuple[tuple[str, str], ...] = ()
    """The body as parts: name and text. A text of `@image` is the file of an image."""
    status: int = 200


@dataclass(frozen=True, slots=True)
class RestOperation:
    """One method of one address."""

    method: str
    path: str
    """As OpenAPI writes it: `/v1/images/{id}`. A name stands for one segment of the path as it was sent."""
    name: str
    """Unique: the document's `operationId`."""
    tag: str
    summary: str
    handler: Handler
    description: str = ""
    path_parameters: dict[str, str] = field(default_factory=dict)
    """Meaning of each name of the path."""
    parameters: type[BaseModel] | None = None
    """Model of the query string."""
    body: type[BaseModel] | None = None
    """Model of a body of JSON; of one line, where `lines` says so."""
    parts: tuple[PartField, ...] = ()
    """Parts of a multipart body, where it takes one."""
    lines: bool = False
    """True where a body is lines of JSON, each of the model, in place of one of JSON."""
    body_required: bool = True
    answers: dict[int, Any] = field(default_factory=lambda: {200: None})
    """The type of the answer of each status; None where there is no body, bytes for a file."""
    media_types: tuple[str, ...] = (JSON,)
    """Types of a successful answer."""
    examples: tuple[OperationExample, ...] = ()


class RawPathRoute(Route):
    """A route that looks at the path as it was sent, so that an encoded slash belongs to an id."""

    def __init__(self, path: str, endpoint: Handler, methods: Sequence[str]) -> None:
        super().__init__(path, endpoint, methods=list(methods), include_in_schema=False)
        names = re.split(r"(\{\w+\})", path)
        self._pattern = re.compile(
            "".join(f"(?P<{name[1:-1]}>[^/]+)" if name.startswith("{") else re.escape(name) for name in names)
        )

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Tell whether the path is this route's, and take the parameters out of it, encoded as they are."""
        if scope["type"] != "http" or not (found := self._pattern.fullmatch(scope["raw_path"].decode("latin-1"))):
            return Match.NONE, {}
        taken = {"endpoint": self.endpoint, "path_params": found.groupdict()}
        return Match.FULL if scope["method"] in (self.methods or ()) else Match.PARTIAL, taken


def routes_of(operations: Sequence[RestOperation]) -> list[RawPathRoute]:
    """Return a route for each address: one that knows all of its methods can name them to whoever sends another."""
    by_path: dict[str, dict[str, Handler]] = {}
    for each in operations:
        by_path.setdefault(each.path, {})[each.method] = each.handler
    # An address without names is itself, whatever has names and fits too.
    ordered = sorted(by_path, key=lambda path: path.count("{"))
    return [RawPathRoute(path, _by_method(by_path[path]), list(by_path[path])) for path in ordered]


def _by_method(handlers: dict[str, Handler]) -> Handler:
    async def endpoint(request: Request) -> Response:
        return await handlers["GET" if request.method == "HEAD" else request.method](request)

    return endpoint
