"""GetStatus's answer as the client's own classes."""

from __future__ import annotations

from lensmesh.caption.v1 import caption_pb2
from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_client import mesh
from lensmesh_client.translate import moment

HEALTHS = {
    router_pb2.HEALTH_SERVING: mesh.Health.SERVING,
    router_pb2.HEALTH_NOT_SERVING: mesh.Health.NOT_SERVING,
    router_pb2.HEALTH_UNREACHABLE: mesh.Health.UNREACHABLE,
}
KINDS = {
    common_pb2.MODEL_KIND_LOCAL: mesh.ModelKind.LOCAL,
    common_pb2.MODEL_KIND_REMOTE: mesh.ModelKind.REMOTE,
    common_pb2.MODEL_KIND_DEMONSTRATION: mesh.ModelKind.DEMONSTRATION,
    common_pb2.MODEL_KIND_MOCK: mesh.ModelKind.MOCK,
}
SCORINGS = {
    encoder_pb2.LABEL_SCORING_SOFTMAX: mesh.LabelScoring.SOFTMAX,
    encoder_pb2.LABEL_SCORING_SIGMOID: mesh.LabelScoring.SIGMOID,
}
MODALITIES = {common_pb2.MODALITY_IMAGE: "image", common_pb2.MODALITY_TEXT: "text"}


def limits(message: common_pb2.Limits) -> mesh.Limits:
    """Translate limits."""
    return mesh.Limits(
        max_message_bytes=message.max_message_bytes,
        max_items=message.max_items,
        max_image_bytes=message.max_image_bytes,
        max_image_pixels=message.max_image_pixels,
        max_text_chars=message.max_text_chars,
        max_metadata_bytes=message.max_metadata_bytes,
        max_page_size=message.max_page_size,
        max_hits=message.max_hits,
        max_offset=message.max_offset,
        max_caption_tokens=message.max_caption_tokens,
        max_image_side_ratio=message.max_image_side_ratio,
        max_metadata_depth=message.max_metadata_depth,
        max_filter_values=message.max_filter_values,
        max_labels=message.max_labels,
        uri_schemes=tuple(message.uri_schemes),
    )


def server(message: common_pb2.ServerInfo) -> mesh.Server:
    """Translate what a process tells of itself."""
    return mesh.Server(
        version=message.version,
        instance=message.instance,
        start_time=moment(message.start_time) if message.HasField("start_time") else None,
        memory_bytes=message.memory_bytes,
    )


def model(message: common_pb2.ModelInfo) -> mesh.Model:
    """Translate a model."""
    return mesh.Model(
        name=message.name,
        kind=KINDS.get(message.kind, mesh.ModelKind.UNKNOWN),
        backend=message.backend,
        precision=message.precision,
        requested_device=message.requested_device,
        devices=tuple(
            mesh.Device(device.id, device.name, device.threads, device.memory_total_bytes, device.memory_used_bytes)
            for device in message.devices
        ),
        weights_digest=message.weights_digest,
        parity_cosine=message.parity_cosine if message.HasField("parity_cosine") else None,
    )


def space(message: common_pb2.VectorSpace) -> mesh.Space:
    """Translate a vector space."""
    on_white = message.transparency == common_pb2.TRANSPARENCY_POLICY_WHITE
    return mesh.Space(
        message.id,
        message.model,
        message.dimension,
        message.normalized,
        on_white,
        message.weights_digest,
        tuple(MODALITIES[each] for each in message.modalities if each in MODALITIES),
    )


def space_message(value: mesh.Space) -> common_pb2.VectorSpace:
    """Make the message of a vector space; what a newer service told beyond it stays untold, the id alone decides."""
    numbers = {name: number for number, name in MODALITIES.items()}
    return common_pb2.VectorSpace(
        id=value.id,
        model=value.model,
        dimension=value.dimension,
        normalized=value.normalized,
        transparency=common_pb2.TRANSPARENCY_POLICY_WHITE if value.on_white else common_pb2.TRANSPARENCY_POLICY_DROP,
        weights_digest=value.weights_digest,
        modalities=[numbers[each] for each in value.modalities if each in numbers],
    )


def encoder(message: encoder_pb2.GetInfoResponse) -> mesh.ServiceInfo:
    """Translate an encoder's GetInfo."""
    models = tuple(
        mesh.AvailableModel(
            model(each.model),
            tuple(space(one) for one in each.spaces),
            each.context_tokens,
            each.logit_scale if each.HasField("logit_scale") else None,
            each.logit_bias if each.HasField("logit_bias") else None,
            SCORINGS.get(each.label_scoring),
        )
        for each in message.models
    )
    return mesh.ServiceInfo(mesh.ServiceKind.ENCODER, models, limits(message.limits), server(message.server))


def captioner(message: caption_pb2.GetInfoResponse) -> mesh.ServiceInfo:
    """Translate a captioner's GetInfo."""
    models = tuple(mesh.AvailableModel(model(each)) for each in message.models)
    return mesh.ServiceInfo(mesh.ServiceKind.CAPTION, models, limits(message.limits), server(message.server))


def search(message: search_pb2.GetInfoResponse) -> mesh.ServiceInfo:
    """Translate search's GetInfo."""
    told = limits(message.limits), server(message.server)
    return mesh.ServiceInfo(mesh.ServiceKind.SEARCH, (), *told, store=message.store)


def service(message: router_pb2.ServiceStatus) -> mesh.Service:
    """Translate one replica's status."""
    return mesh.Service(
        name=message.name,
        address=message.address,
        health=HEALTHS.get(message.health, mesh.Health.UNKNOWN),
        reason=message.reason,
        models=tuple(model(each) for each in message.models),
        spaces=tuple(space(each) for each in message.spaces),
        store=message.store,
        server=server(message.server),
        limits=limits(message.limits),
    )


def media(message: router_pb2.MediaInfo) -> mesh.MediaInfo:
    """Translate what a router keeps of images."""
    return mesh.MediaInfo(message.thumbnails, message.originals, message.thumbnail_px, message.trouble)


def status(message: router_pb2.GetStatusResponse) -> mesh.MeshStatus:
    """Translate the mesh's status."""
    return mesh.MeshStatus(
        services=tuple(service(each) for each in message.services),
        limits=limits(message.limits),
        server=server(message.server),
        default_collection=message.default_collection,
        media=media(message.media),
    )
