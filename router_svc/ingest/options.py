"""Options of a call or a stream for all its items, read once, before any of them."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from opentelemetry import trace

from lensmesh.caption.v1 import caption_pb2
from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.encode_answers import ANSWER_BYTES
from lensmesh_chassis.errors import InvalidInput, LensmeshError, PreconditionFailed
from lensmesh_chassis.images.inputs import check_transparency, wants_bulk
from lensmesh_chassis.limits import check_no_nul
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.telemetry import spans
from router_svc.ingest.dependencies import Dependencies, IngestScopes
from router_svc.ingest.metadata import same_value
from router_svc.ingest.near_options import NearOptions, NearPolicy, read_near_options
from router_svc.ingest.plan import PlanOptions
from router_svc.ingest.tags import TagSetting, check_tags, settle_tags
from router_svc.model_directory import ModelDirectory, policy_of
from router_svc.served_spaces import served_spaces

MAX_BEAMS = 8


@dataclass(frozen=True, slots=True)
class ResolvedOptions:
    """IngestOptions, checked and settled."""

    collection: str
    plan: PlanOptions
    space_ids: Mapping[str, str]
    """NamedSpace.name to VectorSpace.id of every space to fill."""
    caption_is_required: bool
    caption_options: caption_pb2.CaptionOptions
    encode_options: Mapping[str, encoder_pb2.EncodeOptions]
    """By VectorSpace.id."""
    metadata_policy: search_pb2.MetadataPolicy.ValueType
    """Never unspecified."""
    near: NearOptions | None
    """Treatment of near-duplicates; None: they are not looked for."""
    identity: tuple[object, ...]
    """Of the collection's definition: another one where it was deleted and made anew."""
    tags: TagSetting | None = None

    @property
    def features_bytes(self) -> int:
        """Most bytes of an encoder's answer with local features; 0 where the collection keeps none."""
        return ANSWER_BYTES if self.plan.features else 0

    @property
    def first_space_id(self) -> str:
        """VectorSpace.id of the space beside whose vectors all else is made of an image."""
        return self.space_ids[self.plan.spaces[0]]

    def with_thumbnails(self, px: int) -> encoder_pb2.EncodeOptions:
        """Return the options of the first space, with thumbnails whose longer side has `px` pixels."""
        options = encoder_pb2.EncodeOptions(thumbnail_px=px)
        options.MergeFrom(self.encode_options[self.first_space_id])
        return options

    def thumbnails_alone(self, px: int) -> encoder_pb2.EncodeOptions:
        """Return the same for images of which nothing else is needed."""
        options = self.with_thumbnails(px)
        options.local_features = options.perceptual_hash = False
        return options


def check_options(options: router_pb2.IngestOptions) -> None:
    """Refuse what no service is needed to refuse. Raises InvalidInput naming the field."""
    wants_bulk(options.priority, streamed=True)
    wants_bulk(options.caption_options.priority, streamed=True, field="options.caption_options.priority")
    check_transparency(options.transparency)
    check_transparency(options.caption_options.transparency, field="options.caption_options.transparency")
    read_near_options(options)
    if options.HasField("tags"):
        check_tags(options.tags)
    if options.captions not in router_pb2.CaptionPolicy.values():
        raise InvalidInput(
            Reason.OPTION_INVALID,
            f"options.captions is {options.captions}: use one of CaptionPolicy's values or leave it out",
            field="options.captions",
            metadata={"value": options.captions},
        )
    if options.metadata_policy not in search_pb2.MetadataPolicy.values():
        raise InvalidInput(
            Reason.OPTION_INVALID,
            f"options.metadata_policy is {options.metadata_policy}: use one of MetadataPolicy's values or leave it out",
            field="options.metadata_policy",
            metadata={"value": options.metadata_policy},
        )
    check_no_nul(options.caption_options.prompt, "options.caption_options.prompt")
    if options.caption_options.beam_count > MAX_BEAMS:
        raise InvalidInput(
            Reason.OPTION_INVALID,
            f"options.caption_options.beam_count is {options.caption_options.beam_count} and the limit is {MAX_BEAMS}",
            field="options.caption_options.beam_count",
            metadata={"limit": MAX_BEAMS},
        )


class OptionsResolver:
    """Settles the options of one call or stream by the definition of their collection, made where it is not there."""

    def __init__(
        self, dependencies: Dependencies, options: router_pb2.IngestOptions, scopes: IngestScopes, *, streamed: bool
    ) -> None:
        self._dependencies = dependencies
        self._options = options
        self._scopes = scopes
        self._streamed = streamed

    async def resolve(self) -> ResolvedOptions:
        """Return the options as they apply now. Raises what `settle` and CollectionCache.ensure raise."""
        collections = self._dependencies.collection_cache
        name = collections.name(self._options.collection)
        trace.get_current_span().set_attribute(spans.COLLECTION, name)
        collection = await collections.ensure(
            name,
            self._options.transparency,
            self._scopes.store,
            deferred=self._options.deferred_index,
            local_features=self._options.local_features,
        )
        settled = functools.partial(
            settle, self._options, collection, self._dependencies.directory, streamed=self._streamed
        )
        return await self._dependencies.encoders.pool.patiently(settled, self._scopes.encoder)


async def settle(
    options: router_pb2.IngestOptions, collection: search_pb2.Collection, directory: ModelDirectory, *, streamed: bool
) -> ResolvedOptions:
    """Return the options as they apply to `collection` and to what the mesh serves now.

    Raises InvalidInput (SPACE_UNKNOWN), PreconditionFailed (SPACE_MISMATCH, SPACE_NOT_SERVED, MODEL_NOT_SERVED,
    FEATURES_NOT_KEPT, LOCAL_FEATURES_UNSUPPORTED) and Unavailable where nobody has told yet what it serves.
    """
    if options.local_features and not collection.local_features:
        raise _keeps_no_features(collection)
    named = {space.name: space.space for space in collection.spaces}
    names = tuple(dict.fromkeys(options.spaces))
    for index, name in enumerate(options.spaces):
        if name not in named:
            raise InvalidInput(
                Reason.SPACE_UNKNOWN,
                f"options.spaces[{index}] is {name!r}, and the collection {collection.name!r} has: {', '.join(named)}",
                field=f"options.spaces[{index}]",
                metadata={"space": name, "collection": collection.name},
            )
    if names:
        for name in names:
            await directory.encoders(named[name].id)
    else:
        names = await served_spaces(list(collection.spaces), directory)
    _check_policy(options, collection, [named[name] for name in names])
    asks_captions = options.captions != router_pb2.CAPTION_POLICY_NONE
    priority = (
        common_pb2.PRIORITY_BULK if wants_bulk(options.priority, streamed=streamed) else common_pb2.PRIORITY_INTERACTIVE
    )
    caption_options = caption_pb2.CaptionOptions()
    caption_options.CopyFrom(options.caption_options)
    if caption_options.priority == common_pb2.PRIORITY_UNSPECIFIED:
        caption_options.priority = priority
    found_by = policy_of(named[names[0]])
    if caption_options.transparency == common_pb2.TRANSPARENCY_POLICY_UNSPECIFIED:
        # A caption says what its item is found by.
        caption_options.transparency = found_by
    if asks_captions:
        await _check_captioner(caption_options, directory)
    space_ids = {name: named[name].id for name in names}
    tags = settle_tags(options.tags, names, space_ids, priority, directory) if options.HasField("tags") else None
    policy = options.metadata_policy or search_pb2.METADATA_POLICY_MERGE
    near = read_near_options(options)
    # Made once for each image, beside its vector in the first space.
    featured = space_ids[names[0]] if collection.local_features else ""
    feature_kind = await directory.local_feature_kind(featured) if featured else 0
    return ResolvedOptions(
        collection.name,
        PlanOptions(
            names,
            asks_captions,
            caption_options.model,
            caption_options.prompt,
            # Of a stored caption its policy is not known: nearly always the collection's.
            takes_captions=caption_options.transparency == found_by,
            hashes=near is not None,
            features=collection.local_features,
            feature_kind=feature_kind,
            mark_field=near.field if near is not None and near.action is NearPolicy.MARK else "",
            merges_metadata=policy == search_pb2.METADATA_POLICY_MERGE,
            same_value=same_value,
            stored_tags=tags.stored if tags else None,
        ),
        space_ids,
        options.captions == router_pb2.CAPTION_POLICY_REQUIRED,
        caption_options,
        {
            space_id: encoder_pb2.EncodeOptions(
                data_type=common_pb2.DATA_TYPE_FLOAT32,
                priority=priority,
                space_id=space_id,
                perceptual_hash=near is not None,
                local_features=space_id == featured,
            )
            for space_id in space_ids.values()
        },
        policy,
        near,
        (collection.uid, collection.local_features, *((space.name, space.space.id) for space in collection.spaces)),
        tags,
    )


def _keeps_no_features(collection: search_pb2.Collection) -> PreconditionFailed:
    return PreconditionFailed(
        Reason.FEATURES_NOT_KEPT,
        f"options.local_features: the collection {collection.name!r} keeps none. It was made without, or by a search"
        " service of an older release: ingest into a new collection, or leave options.local_features out",
        field="options.local_features",
        metadata={"collection": collection.name},
    )


def _policy_name(policy: common_pb2.TransparencyPolicy.ValueType) -> str:
    # A space of a newer release may have one that this release has no word for.
    known = policy in common_pb2.TransparencyPolicy.values()
    return common_pb2.TransparencyPolicy.Name(policy) if known else str(policy)


def _check_policy(
    options: router_pb2.IngestOptions, collection: search_pb2.Collection, spaces: Sequence[common_pb2.VectorSpace]
) -> None:
    if options.transparency == common_pb2.TRANSPARENCY_POLICY_UNSPECIFIED:
        return
    for space in spaces:
        if policy_of(space) != options.transparency:
            wanted, has = map(_policy_name, (options.transparency, policy_of(space)))
            raise PreconditionFailed(
                Reason.SPACE_MISMATCH,
                f"options.transparency is {wanted}, and the collection {collection.name!r} was made with {has}: leave "
                "it out, or ingest into another collection",
                field="options.transparency",
                metadata={"transparency": has, "asked": wanted, "collection": collection.name, "space_id": space.id},
            )


async def _check_captioner(options: caption_pb2.CaptionOptions, directory: ModelDirectory) -> None:
    """Refuse a model that nobody runs and a length that nobody writes; a captioner that is away fails no call."""
    try:
        await directory.captioners(options.model)
    except LensmeshError as error:
        if error.reason is Reason.CAPTIONER_UNAVAILABLE:
            return
        raise
    limit = directory.max_caption_tokens()
    if limit and options.max_tokens > limit:
        raise InvalidInput(
            Reason.OPTION_INVALID,
            f"options.caption_options.max_tokens is {options.max_tokens} and the limit is {limit}",
            field="options.caption_options.max_tokens",
            metadata={"limit": limit},
        )
