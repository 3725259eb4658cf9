"""Decides what one image still needs, given what the store holds. Pure: no I/O, no gRPC, no protobuf."""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """Options of a call or a stream for every item, as far as a plan depends on them."""

    spaces: tuple[str, ...]
    """NamedSpace.name values to fill."""
    captions: bool
    """True where a caption is asked for."""
    caption_model: str = ""
    """ModelInfo.name that alone will do; empty: any."""
    caption_prompt: str = ""
    """Words that a generated caption begins with."""
    takes_captions: bool = True
    """True where a generated caption that is stored will do; not where it may tell of what is hidden, or is not."""
    hashes: bool = False
    """True where each item shall have its perceptual hash."""
    features: bool = False
    """True where each item shall have its local features."""
    feature_kind: int = 0
    """The kind that encoders make, which alone will do; 0: any."""
    mark_field: str = ""
    """Field of the metadata that is the service's own word on near-duplicates, and stays with its image."""
    merges_metadata: bool = True
    """True where stored metadata that an item does not carry is kept; otherwise what it carries replaces all of it."""
    same_value: Callable[[object, object], bool] = operator.eq
    """Function that tells whether two values of metadata say the same."""
    stored_tags: Callable[[Mapping[str, object], bytes], Mapping[str, object]] | None = None
    """Function that chooses the stored tags that are asked for, of an image with that digest; None: none are."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """An image as its caller wants it stored."""

    id: str
    digest: bytes
    metadata: Mapping[str, object]
    caption: str = ""
    """The caller's own; empty: none given."""
    image_uri: str = ""


@dataclass(frozen=True, slots=True)
class StoredItem:
    """An item as the store holds it, without the numbers of its vectors."""

    id: str
    digest: bytes
    metadata: Mapping[str, object]
    spaces: frozenset[str]
    """NamedSpace.name values it has a vector for."""
    caption: str | None = None
    caption_model: str = ""
    """Empty: a caller wrote the caption."""
    image_uri: str = ""
    hashed: bool = False
    """True where it has a perceptual hash."""
    feature_kind: int = 0
    """The kind of its local features; 0 where it has none."""


class CaptionSource(Enum):
    """Source of an item's caption."""

    NOWHERE = auto()
    CALLER = auto()
    STORED = auto()
    """From the stored item Plan.caption_from."""
    MODEL = auto()


@dataclass(frozen=True, slots=True)
class ItemPlan:
    """Work to be done for one item."""

    unchanged: bool
    """It is there as wanted: no model runs and nothing is written."""
    encode: tuple[str, ...] = ()
    """Named spaces that an encoder has to fill."""
    take: Mapping[str, str] = field(default_factory=dict)
    """Named space to the id of the stored item whose vector there is this image's too."""
    caption: CaptionSource = CaptionSource.NOWHERE
    caption_from: str = ""
    hash_from: str = ""
    """The id of the stored item whose perceptual hash is this image's too; empty where there is none."""
    features_from: str = ""
    """The id of the stored item whose local features are this image's too; empty where there is none."""
    keep_uri: str = ""
    """The stored image_uri, where the caller gives none for the same image."""
    tag: bool = False
    """An encoder has to find the tags."""
    tags: Mapping[str, object] = field(default_factory=dict)
    """Fields of metadata with tags of this very image."""
    tags_from: str = ""
    """The stored item that has them."""


def plan(wanted: Wanted, options: PlanOptions, own: StoredItem | None, alike: Sequence[StoredItem]) -> ItemPlan:
    """Decide what `wanted` needs, where `own` is the item of its id and `alike` are stored items of the same content.

    A stored item of another content gives nothing: its vectors, caption and image_uri are of another image. Metadata is
    the id's, and what becomes of it, the store decides by the policy of the write.
    """
    same = own if own is not None and own.digest == wanted.digest else None
    donors = ([same] if same else []) + [item for item in alike if item.digest == wanted.digest]
    take: dict[str, str] = {}
    for donor in donors:
        # Beyond the spaces asked for, the item's own vectors stay: they are of this very image.
        for name in donor.spaces if donor is same else donor.spaces & set(options.spaces):
            take.setdefault(name, donor.id)
    encode = tuple(name for name in options.spaces if name not in take)
    hash_donor = next((donor.id for donor in donors if donor.hashed), "")
    features_donor = next((donor.id for donor in donors if _has_features(donor, options)), "")
    first = options.spaces[:1]
    lacks_features = options.features and not features_donor and encode[:1] != first
    if lacks_features or (options.hashes and not hash_donor and not encode):
        # The Encoder makes both beside a vector, features beside the first one: it is made once more.
        encode = (*first, *encode)
        take = {name: donor_id for name, donor_id in take.items() if name not in first}
    source, caption_donor = _caption(wanted, options, same, donors)
    tags, tags_donor = _tags(wanted, options, donors)
    tag = options.stored_tags is not None and not tags
    unchanged = (
        same is not None
        and not encode
        and all(donor_id == same.id for donor_id in take.values())
        and (same.hashed or not options.hashes)
        and (_has_features(same, options) or not options.features)
        and not tag
        and metadata_stands({**wanted.metadata, **tags}, same.metadata, options)
        and wanted.image_uri in ("", same.image_uri)
        and _caption_stands(wanted, same, source, caption_donor)
    )
    return ItemPlan(
        unchanged,
        encode,
        take,
        source,
        caption_donor,
        hash_donor,
        features_donor if options.features else "",
        same.image_uri if same and not wanted.image_uri else "",
        tag,
        tags,
        tags_donor,
    )


def _has_features(item: StoredItem, options: PlanOptions) -> bool:
    return bool(item.feature_kind) and options.feature_kind in (0, item.feature_kind)


def _tags(wanted: Wanted, options: PlanOptions, donors: Sequence[StoredItem]) -> tuple[Mapping[str, object], str]:
    stored_tags = options.stored_tags
    if stored_tags is not None:
        for donor in donors:
            if found := stored_tags(donor.metadata, wanted.digest):
                return found, donor.id
    return {}, ""


def _caption(
    wanted: Wanted, options: PlanOptions, same: StoredItem | None, donors: Sequence[StoredItem]
) -> tuple[CaptionSource, str]:
    if wanted.caption:
        return CaptionSource.CALLER, ""
    if same is not None and same.caption is not None and (not same.caption_model or not options.captions):
        # What is not carried is kept: a caller's own words always, generated ones where nobody asks for others.
        return CaptionSource.STORED, same.id
    if not options.captions:
        return CaptionSource.NOWHERE, ""
    for donor in donors:
        if _generated_as_asked(donor, options):
            return CaptionSource.STORED, donor.id
    return CaptionSource.MODEL, ""


def _generated_as_asked(item: StoredItem, options: PlanOptions) -> bool:
    if item.caption is None or not item.caption_model or not options.takes_captions:
        return False
    model = item.caption_model.rpartition("@")[0] or item.caption_model
    return options.caption_model in ("", model) and item.caption.lower().startswith(options.caption_prompt.lower())


def metadata_stands(carried: Mapping[str, object], stored: Mapping[str, object], options: PlanOptions) -> bool:
    """Tell whether stored metadata stays as it is when `carried` is written."""
    if not options.merges_metadata and carried.keys() | {options.mark_field} != stored.keys() | {options.mark_field}:
        return False
    return all(name in stored and options.same_value(stored[name], value) for name, value in carried.items())


def _caption_stands(wanted: Wanted, same: StoredItem, source: CaptionSource, donor: str) -> bool:
    match source:
        case CaptionSource.CALLER:
            return same.caption == wanted.caption and not same.caption_model
        case CaptionSource.STORED:
            return donor == same.id
        case CaptionSource.NOWHERE:
            return same.caption is None
        case CaptionSource.MODEL:
            return False
