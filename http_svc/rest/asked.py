"""Reading of requests: paths, query strings and bodies, read into models. What does not fit is named."""

from typing import Any, ClassVar, TypeVar
from urllib.parse import parse_qsl, unquote

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request

from http_svc.json_bodies import parse_json
from http_svc.rest.multipart import BodyPart, MultipartReader, boundary_of
from http_svc.settings import HttpSettings
from lensmesh_chassis.errors import InvalidInput, Violation
from lensmesh_chassis.reasons import Reason

_MOST_PARAMETERS = 200
_MOST_NAMED = 16
JSON, FORM = "application/json", "multipart/form-data"

M = TypeVar("M", bound=BaseModel)


class Asked(BaseModel):
    """A request of JSON, or a part of one: no field but its own, no type but the field's, finite numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class AskedInQuery(BaseModel):
    """A query string. Names in `commas` take several values in one, with commas; other lists are sent repeatedly."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    commas: ClassVar[frozenset[str]] = frozenset()


def path_text(request: Request, name: str) -> str:
    """Return a segment of the path, decoded. Raises InvalidInput for one that is not UTF-8."""
    try:
        return unquote(request.path_params[name], errors="strict")
    except UnicodeDecodeError:
        raise InvalidInput(
            Reason.TEXT_INVALID, f"{name} is not UTF-8: encode its bytes in UTF-8, each as %XX", field=name
        ) from None


def read_query(request: Request, model: type[M]) -> M:
    """Read the query string. Raises InvalidInput that names each value that does not fit."""
    text = request.scope["query_string"].decode("latin-1")
    try:
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_MOST_PARAMETERS)
    except UnicodeDecodeError:
        raise InvalidInput(Reason.TEXT_INVALID, "the query string is not UTF-8: encode it in UTF-8") from None
    except ValueError:
        raise InvalidInput(
            Reason.OPTION_INVALID, f"the query string has more than {_MOST_PARAMETERS} values: send fewer"
        ) from None
    commas: frozenset[str] = getattr(model, "commas", frozenset())
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    given: dict[str, Any] = {}
    for name, value in pairs:
        found = fields.get(name)
        if found is not None and found.default_factory is list:
            given.setdefault(name, []).extend(value.split(",") if name in commas else [value])
        elif name in given:
            raise InvalidInput(Reason.OPTION_INVALID, f"{name[:80]} is given twice: give it once", field=name[:80])
        else:
            given[name] = value
    return fitted(model, given)


async def read_json(request: Request, model: type[M], settings: HttpSettings) -> M:
    """Read a body of JSON. Raises InvalidInput as `parse_json` and `fitted` do; HTTPException for another type."""
    check_type(request, JSON)
    return fitted(model, parse_json(await request.scope["body"].read(), settings.body_values))


def content_type(request: Request) -> str:
    """Return the type of the body, in small letters and without parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def check_type(request: Request, *allowed: str) -> str:
    """Return the type of the body, one of these. Raises HTTPException (415)."""
    given = content_type(request)
    if given not in allowed:
        raise HTTPException(415, f"the content type is {given[:60]!r}: send {' or '.join(allowed)}")
    return given


async def read_parts(request: Request, settings: HttpSettings, most: int) -> list[BodyPart]:
    """Read a multipart body whole: `most` parts. Raises InvalidInput for more, and for what is no multipart."""
    reader = MultipartReader(boundary_of(request.headers.get("content-type", "")), settings.body_bytes, most)
    parts = reader.feed(await request.scope["body"].read())
    reader.finish()
    return parts


def fitted(model: type[M], value: Any, field: str = "") -> M:
    """Return the model of a value. Raises InvalidInput (OPTION_INVALID), which names each field that does not fit."""
    if not isinstance(value, dict):
        name = field or "body"
        raise InvalidInput(Reason.MESSAGE_MALFORMED, f"{name} has to be an object, such as {{}}", field=name)
    try:
        return model.model_validate(value)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_context=False, include_input=False)
        named = [Violation(path := _path(field, each["loc"]), _wrong(model, each, path)) for each in errors]
        raise InvalidInput(Reason.OPTION_INVALID, named[0].description, violations=named[:_MOST_NAMED]) from None
    except (OverflowError, RecursionError) as error:
        raise InvalidInput(Reason.OPTION_INVALID, f"the body holds a value that is too large: {error}") from None


def _path(field: str, places: tuple[int | str, ...]) -> str:
    text = field
    for place in places:
        text += f"[{place}]" if isinstance(place, int) else f".{place}" if text else str(place)
    return text.encode("utf-8", "replace").decode()[:120] or "body"


def _wrong(model: type[BaseModel], error: Any, path: str) -> str:
    if error["type"] == "extra_forbidden":
        known = (
            f": {', '.join(f.alias or n for n, f in model.model_fields.items())} are known"
            if len(error["loc"]) == 1
            else ""
        )
        return f"{path} is not known here{known}"
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{path or 'body'}: {message[:1].lower()}{message[1:]}"
