"""The images of Arthur image recognition as the mesh keeps them, and what comes of requests about them."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from google.protobuf import struct_pb2
from starlette.requests import Request

from http_svc.compat.inputs import RequestInputs, image_of_text, read_inputs
from http_svc.mesh import Mesh
from http_svc.settings import HttpSettings
from lensmesh.common.v1 import common_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InvalidInput, LensmeshError, NotFound
from lensmesh_chassis.reasons import Reason
from lensmesh_client.arthur import FIELDS, ViewNames, find_or_make_collection, names_of_id
from lensmesh_client.metadata import struct

ARTIST, ENTRY, VIEW = FIELDS
# Of a form without files: an address and some names.
_MOST_FIELDS = 32
_URL_FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class ArthurContext:
    """The settings, and the mesh behind the door."""

    settings: HttpSettings
    mesh: Mesh

    @property
    def collection(self) -> str:
        """The name of the collection that all of these addresses are about."""
        return self.settings.arthur_collection

    async def find_or_make(self) -> search_pb2.Collection:
        """Return the collection, made if it is not there. Raises LensmeshError."""
        return await find_or_make_collection(self.mesh, self.collection)

    async def find(self) -> search_pb2.Collection | None:
        """Return the collection; None while nothing was added. Raises LensmeshError."""
        asked = search_pb2.GetCollectionRequest(name=self.collection)
        try:
            found: search_pb2.Collection = (await self.mesh.call(self.mesh.search.GetCollection, asked)).collection
        except NotFound:
            return None
        return found

    async def add(self, names: ViewNames, item_id: str, image: common_pb2.Image) -> None:
        """Make one image findable. Raises LensmeshError."""
        item = router_pb2.IngestItem(id=item_id, image=image, metadata=struct(names.metadata))
        options = router_pb2.IngestOptions(collection=self.collection, captions=router_pb2.CAPTION_POLICY_NONE)
        # Hashes are kept: copies are recognised by them.
        options.near_duplicates.action = router_pb2.NEAR_DUPLICATE_ACTION_STORE
        await self.mesh.call(self.mesh.router.Ingest, router_pb2.IngestRequest(options=options, item=item))


def is_missing_collection(error: LensmeshError) -> bool:
    """Tell whether a call failed because nothing was added yet."""
    return isinstance(error, NotFound) and error.reason is Reason.COLLECTION_NOT_FOUND


def names_of(item: search_pb2.Item) -> ViewNames:
    """Return the names of an item: of its metadata, else of its id. An item of another making has its id for a view."""
    fields = item.metadata.fields
    values = [_text(fields[name]) if name in fields else "" for name in FIELDS]
    if all(values):
        return ViewNames(*values)
    return names_of_id(item.id) or ViewNames(values[0], values[1], item.id)


def _text(value: struct_pb2.Value) -> str:
    kind = value.WhichOneof("kind")
    if kind == "string_value":
        return value.string_value
    return f"{value.number_value:.17g}" if kind == "number_value" else ""


def of_artist(artist: str, *, other: bool = False) -> search_pb2.Filter:
    """Return the filter for the images of one artist, or of all `other` ones."""
    chosen = search_pb2.Filter()
    # `not` is a word of Python's own.
    target: search_pb2.Filter = getattr(chosen, "not") if other else chosen
    target.condition.field = ARTIST
    target.condition.equals.string_value = artist
    return chosen


async def read_fields(request: Request, settings: HttpSettings) -> RequestInputs:
    """Read a body: a form, with files or without, JSON, or nothing. Raises InvalidInput for any other."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == _URL_FORM:
        try:
            text = (await request.scope["body"].read()).decode()
            return RequestInputs(
                dict(parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS))
            )
        except ValueError:
            raise InvalidInput(
                Reason.MESSAGE_MALFORMED, f"the form is not UTF-8, or has more than {_MOST_FIELDS} fields", field="body"
            ) from None
    if not kind and not await request.scope["body"].read():
        return RequestInputs()
    return await read_inputs(request, settings)


def image_of(inputs: RequestInputs) -> common_pb2.Image:
    """Return the image of a request. Raises InvalidInput where there is none."""
    if content := inputs.files.get("imgFile"):
        return common_pb2.Image(content=content)
    return image_at(inputs.values, "imgUrl")


def image_at(values: dict[str, Any], field: str) -> common_pb2.Image:
    """Return the image that a value names. Raises InvalidInput where there is none."""
    address = values.get("imgUrl") or values.get("img_url") or values.get("image_url")
    if not address:
        raise InvalidInput(
            Reason.IMAGE_MISSING,
            f"no image provided: send a part imgFile, or the image's address as {field}",
            field=field,
        )
    if not isinstance(address, str):
        raise InvalidInput(Reason.OPTION_INVALID, f"{field} has to be a text, the image's address", field=field)
    return image_of_text(address, field)
