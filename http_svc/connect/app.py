"""The Connect protocol over the contracts: unary calls by POST and GET, streamed answers, and plain forms of them."""

import base64
import binascii
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any
from urllib.parse import parse_qs

import grpc
from starlette.exceptions import HTTPException
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from http_svc.answers import with_etag
from http_svc.connect import wire
from http_svc.connect.methods import ConnectMethod, connect_methods
from http_svc.errors import ErrorView
from http_svc.json_bodies import dump
from http_svc.mesh import Mesh, begun
from http_svc.serving.body import Body
from http_svc.settings import HttpSettings
from lensmesh_chassis.errors import InvalidInput, LensmeshError, NotBuilt, NotFound
from lensmesh_chassis.reasons import Reason

_BIDIRECTIONAL = (
    "this method streams requests, which HTTP does not carry here: use gRPC, or POST /v1/ingest to ingest many images"
)


class ConnectApp:
    """An ASGI application for paths such as /lensmesh.router.v1.RouterService/Search."""

    def __init__(self, settings: HttpSettings, mesh: Mesh) -> None:
        self._settings, self._mesh = settings, mesh
        self.methods: Mapping[str, ConnectMethod] = connect_methods(mesh.channel)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(reversed(scope["headers"]))
        content_type = headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
        try:
            response = await self._answer(scope, headers, content_type)
        except HTTPException as error:
            wrong = InvalidInput(Reason.OPTION_INVALID, error.detail, field="content-type")
            response = Response(dump(wire.error_json(ErrorView.of(wrong))), error.status_code, media_type=wire.JSON)
        except (LensmeshError, grpc.RpcError) as error:
            response = _failed(error, content_type)
        await response(scope, receive, send)

    async def _answer(self, scope: Scope, headers: dict[bytes, bytes], content_type: str) -> Response:
        method = self.methods.get(scope["path"])
        if method is None:
            raise NotFound(Reason.UNKNOWN, "no contract has a method of this name: /docs lists them")
        scope["rpc"] = method.path
        if method.client_streams:
            raise NotBuilt(Reason.NOT_IMPLEMENTED, _BIDIRECTIONAL)
        timeout_s = wire.timeout_s(headers.get(b"connect-timeout-ms", b"").decode("latin-1"))
        if scope["method"] == "GET":
            return await self._get(scope, headers, method, timeout_s)
        if scope["method"] != "POST":
            return Response(status_code=405, headers={"allow": "POST, GET" if method.safe else "POST"})
        body: Body = scope["body"]
        if method.server_streams:
            return await self._stream(body, headers, content_type, method, timeout_s)
        form = self._form(content_type, wire.JSON, wire.PROTO)
        sent = wire.unpacked(await body.read(), _text(headers, b"content-encoding"), self._settings.body_bytes)
        answer = await self._unary(method, form.to_wire(sent, method.request), timeout_s)
        return Response(form.from_wire(answer, method.response), media_type=wire.PROTO if form.binary else wire.JSON)

    async def _get(
        self, scope: Scope, headers: dict[bytes, bytes], method: ConnectMethod, timeout_s: float | None
    ) -> Response:
        if not method.safe or method.server_streams:
            return Response(status_code=405, headers={"allow": "POST"})
        asked = {key: values[-1] for key, values in parse_qs(scope["query_string"].decode("latin-1")).items()}
        encoding = asked.get("encoding", "json")
        if encoding not in ("json", "proto"):
            raise InvalidInput(Reason.OPTION_INVALID, "encoding is json or proto", field="encoding")
        form = wire.MessageForm(binary=encoding == "proto", max_values=self._settings.body_values)
        message = asked.get("message", "").encode()
        if asked.get("base64") == "1":
            try:
                message = base64.urlsafe_b64decode(message + b"=" * (-len(message) % 4))
            except (binascii.Error, ValueError):
                raise InvalidInput(Reason.MESSAGE_MALFORMED, "message is no base64", field="message") from None
        message = wire.unpacked(message, asked.get("compression", ""), self._settings.body_bytes)
        answer = await self._unary(method, form.to_wire(message, method.request), timeout_s)
        shown = form.from_wire(answer, method.response)
        return with_etag(shown, wire.PROTO if form.binary else wire.JSON, _text(headers, b"if-none-match"))

    async def _unary(self, method: ConnectMethod, request: bytes, timeout_s: float | None) -> bytes:
        answer: bytes = await self._mesh.call(method.call, request, timeout_s)
        return answer

    async def _stream(
        self, body: Body, headers: dict[bytes, bytes], content_type: str, method: ConnectMethod, timeout_s: float | None
    ) -> Response:
        accepted = _text(headers, b"accept")
        sent = await body.read()
        limit = self._settings.body_bytes
        if content_type in (wire.STREAM_JSON, wire.STREAM_PROTO):
            form = self._form(content_type, wire.STREAM_JSON, wire.STREAM_PROTO)
            request = wire.one_envelope(sent, _text(headers, b"connect-content-encoding"), limit)
            answers = self._mesh.stream(method.call, form.to_wire(request, method.request), timeout_s)
            return StreamingResponse(_enveloped(answers, form, method), media_type=content_type)
        # What a person asks for by curl.
        form = self._form(content_type, wire.JSON, wire.PROTO)
        request = form.to_wire(wire.unpacked(sent, _text(headers, b"content-encoding"), limit), method.request)
        # A call that fails at once is answered by its status, as long as there is one to choose.
        answers = await begun(self._mesh.stream(method.call, request, timeout_s))
        lines = wire.MessageForm(binary=False, max_values=0)
        if wire.SSE in accepted:
            return StreamingResponse(_events(answers, lines, method), media_type=wire.SSE, headers=_UNBUFFERED)
        return StreamingResponse(_lines(answers, lines, method), media_type=wire.NDJSON, headers=_UNBUFFERED)

    def _form(self, content_type: str, json: str, proto: str) -> wire.MessageForm:
        if content_type not in (json, proto):
            raise HTTPException(415, f"the content type is {content_type[:60]!r}: send {json} or {proto}")
        return wire.MessageForm(binary=content_type == proto, max_values=self._settings.body_values)


# A proxy such as NGINX would keep a stream's first answers back.
_UNBUFFERED = {"cache-control": "no-cache", "x-accel-buffering": "no"}


async def _enveloped(
    answers: AsyncGenerator[Any] | AsyncIterator[Any], form: wire.MessageForm, method: ConnectMethod
) -> AsyncIterator[bytes]:
    try:
        async for answer in answers:
            yield wire.envelope(form.from_wire(answer, method.response))
    except LensmeshError as error:
        yield wire.end_of_stream(ErrorView.of(error))
    else:
        yield wire.end_of_stream(None)


async def _lines(answers: AsyncIterator[Any], form: wire.MessageForm, method: ConnectMethod) -> AsyncIterator[bytes]:
    try:
        async for answer in answers:
            yield form.from_wire(answer, method.response) + b"\n"
    except LensmeshError as error:
        yield dump({"error": ErrorView.of(error).json()}) + b"\n"


async def _events(answers: AsyncIterator[Any], form: wire.MessageForm, method: ConnectMethod) -> AsyncIterator[bytes]:
    try:
        async for answer in answers:
            yield b"data: " + form.from_wire(answer, method.response) + b"\n\n"
    except LensmeshError as error:
        yield b"event: error\ndata: " + dump({"error": ErrorView.of(error).json()}) + b"\n\n"
    else:
        yield b"event: end\ndata: {}\n\n"


def _failed(error: BaseException, content_type: str) -> Response:
    view = ErrorView.of(error)
    if content_type in (wire.STREAM_JSON, wire.STREAM_PROTO):
        # A stream's errors stand at its end, and its HTTP status says nothing.
        return Response(wire.end_of_stream(view), media_type=content_type)
    headers = {name.decode(): value.decode() for name, value in view.headers}
    return Response(dump(wire.error_json(view)), wire.http_status(view), headers, wire.JSON)


def _text(headers: dict[bytes, bytes], name: bytes) -> str:
    return headers.get(name, b"").decode("latin-1").strip()
