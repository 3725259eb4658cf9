"""Decides what one picture still needs, given what the store holds. Pure: no I/O, no gRPC, no protobuf."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto


@dataclass(frozen=True, slots=True)
class Terms:
    """What a call or a stream asks for every item."""

    spaces: tuple[str, ...]
    """NamedSpace.name values to fill."""
    captions: bool
    """Whether a caption is asked for."""
    caption_model: str = ""
    """ModelInfo.name that alone will do; empty: any."""
    caption_prompt: str = ""
    """Words that a generated caption begins with."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One picture as its caller wants it stored."""

    id: str
    digest: bytes
    metadata: object
    """Anything that compares equal to StoredItem.metadata where the two say the same."""
    caption: str = ""
    """The caller's own; empty: none given."""
    image_uri: str = ""


@dataclass(frozen=True, slots=True)
class StoredItem:
    """One item as the store holds it, without the numbers of its vectors."""

    id: str
    digest: bytes
    metadata: object
    spaces: frozenset[str]
    """NamedSpace.name values it has a vector for."""
    caption: str | None = None
    caption_model: str = ""
    """Empty: a caller wrote the caption."""
    image_uri: str = ""


class CaptionSource(Enum):
    """Where an item's caption comes from."""

    NOWHERE = auto()
    CALLER = auto()
    STORED = auto()
    """From the stored item Plan.caption_from."""
    MODEL = auto()


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done for one item."""

    unchanged: bool
    """It is there as wanted: no model runs and nothing is written."""
    encode: tuple[str, ...] = ()
    """Named spaces that an encoder has to fill."""
    take: Mapping[str, str] = field(default_factory=dict)
    """Named space to the id of the stored item whose vector there is this picture's too."""
    caption: CaptionSource = CaptionSource.NOWHERE
    caption_from: str = ""
    keep_uri: str = ""
    """The stored image_uri, where the caller gives none for the same picture."""


def plan(wanted: Wanted, terms: Terms, own: StoredItem | None, alike: Sequence[StoredItem]) -> Plan:
    """What `wanted` needs, where `own` is the item of its id and `alike` are stored items of the same content.

    A stored item of another content gives nothing: it is replaced whole.
    """
    same = own if own is not None and own.digest == wanted.digest else None
    donors = ([same] if same else []) + [item for item in alike if item.digest == wanted.digest]
    take: dict[str, str] = {}
    for donor in donors:
        # Beyond the spaces asked for, the item's own vectors stay: they are of this very picture.
        for name in donor.spaces if donor is same else donor.spaces & set(terms.spaces):
            take.setdefault(name, donor.id)
    encode = tuple(name for name in terms.spaces if name not in take)
    source, giver = _caption(wanted, terms, same, donors)
    unchanged = (
        same is not None
        and not encode
        and all(giver_id == same.id for giver_id in take.values())
        and same.metadata == wanted.metadata
        and wanted.image_uri in ("", same.image_uri)
        and _caption_stands(wanted, same, source, giver)
    )
    return Plan(unchanged, encode, take, source, giver, same.image_uri if same and not wanted.image_uri else "")


def _caption(
    wanted: Wanted, terms: Terms, same: StoredItem | None, donors: Sequence[StoredItem]
) -> tuple[CaptionSource, str]:
    if wanted.caption:
        return CaptionSource.CALLER, ""
    if not terms.captions:
        # Nobody asks for one, but a generated one that is there still says what the picture shows.
        kept = same is not None and same.caption is not None and same.caption_model != ""
        return (CaptionSource.STORED, same.id) if same and kept else (CaptionSource.NOWHERE, "")
    for donor in donors:
        if _generated_as_asked(donor, terms):
            return CaptionSource.STORED, donor.id
    return CaptionSource.MODEL, ""


def _generated_as_asked(item: StoredItem, terms: Terms) -> bool:
    if item.caption is None or not item.caption_model:
        return False
    model = item.caption_model.rpartition("@")[0] or item.caption_model
    return terms.caption_model in ("", model) and item.caption.lower().startswith(terms.caption_prompt.lower())


def _caption_stands(wanted: Wanted, same: StoredItem, source: CaptionSource, giver: str) -> bool:
    match source:
        case CaptionSource.CALLER:
            return same.caption == wanted.caption and not same.caption_model
        case CaptionSource.STORED:
            return giver == same.id
        case CaptionSource.NOWHERE:
            return same.caption is None
        case CaptionSource.MODEL:
            return False
