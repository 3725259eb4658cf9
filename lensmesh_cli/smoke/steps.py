"""The steps of a smoke test, in order. Each returns what it found, and raises Broken or LensmeshError."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import grpc
import numpy as np
from google.protobuf import json_format, struct_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from lensmesh.caption.v1 import caption_pb2
from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis import contract
from lensmesh_chassis.errors import NotBuilt, NotFound
from lensmesh_chassis.rpc.status import from_rpc_error, from_status
from lensmesh_cli.smoke.door import door
from lensmesh_cli.smoke.jaeger import trace
from lensmesh_cli.smoke.mesh import SmokeMesh
from lensmesh_cli.smoke.report import Broken

NOT_A_ROUTER = "--target: give the router's address, not that of a service behind it"
KINDS = {"EncoderService": "encoder", "CaptionerService": "caption", "SearchService": "search"}


@dataclass(frozen=True, slots=True)
class SmokeStep:
    """A step. `needs` names the steps without which there is no sense in trying it."""

    name: str
    run: Callable[[SmokeMesh], Awaitable[str]]
    needs: tuple[str, ...] = ("health",)


async def health(mesh: SmokeMesh) -> str:
    """Check the router itself."""
    answer = await mesh.call(health_pb2_grpc.HealthStub(mesh.channel).Check, health_pb2.HealthCheckRequest())
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        raise Broken(
            f"{mesh.options.target} answers {health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)}"
        )
    return f"{mesh.options.target} is serving"


async def services(mesh: SmokeMesh) -> str:
    """Check every service behind the router."""
    try:
        status = await mesh.call(mesh.router.GetStatus, router_pb2.GetStatusRequest())
    except NotBuilt:
        raise Broken(f"{mesh.options.target} is no router", NOT_A_ROUTER) from None
    good, bad = [], []
    for service in status.services:
        kind = KINDS.get(service.name.rpartition(".")[2], service.name)
        if service.health == router_pb2.HEALTH_SERVING:
            mesh.services.add(kind)
            good.append(f"{kind} {service.address}")
        else:
            word = router_pb2.Health.Name(service.health).removeprefix("HEALTH_").lower().replace("_", " ")
            bad.append(f"{kind} {service.address} is {word}" + (f" ({service.reason})" if service.reason else ""))
    known = {service.name.rpartition(".")[2] for service in status.services}
    missing = [f"the router knows no {kind}" for name, kind in KINDS.items() if name not in known]
    if bad or missing:
        raise Broken("; ".join([*bad, *missing]))
    return ", ".join(good)


async def reflection(mesh: SmokeMesh) -> str:
    """Check what grpcurl and other programs without stubs need."""
    wanted = {service.full_name for service in contract.services()} | {"grpc.health.v1.Health"}
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    rpc = reflection_pb2_grpc.ServerReflectionStub(mesh.channel).ServerReflectionInfo(
        iter([request]), timeout=mesh.options.timeout_s
    )
    listed: set[str] = set()
    try:
        async for answer in rpc:
            listed |= {service.name for service in answer.list_services_response.service}
    except grpc.RpcError as error:
        raise from_rpc_error(error) from None
    if missing := wanted - listed:
        raise Broken(f"not listed: {', '.join(sorted(missing))}", NOT_A_ROUTER)
    return f"{len(listed)} services listed"


async def encode(mesh: SmokeMesh) -> str:
    """Encode a text and an image, and check that their vectors are of one space."""
    options = encoder_pb2.EncodeOptions(data_type=common_pb2.DATA_TYPE_FLOAT32)
    images = encoder_pb2.EncodeImagesRequest(images=[common_pb2.Image(content=mesh.images[0])], options=options)
    texts = encoder_pb2.EncodeTextsRequest(texts=["a red disc"], options=options)
    [image] = (await mesh.call(mesh.encoder.EncodeImages, images)).results
    [text] = (await mesh.call(mesh.encoder.EncodeTexts, texts)).results
    for result in (image, text):
        if result.HasField("error"):
            raise from_status(result.error)
        norm = float(np.linalg.norm(np.frombuffer(result.embedding.data, "<f4")))
        if not abs(norm - 1) < 0.01:
            raise Broken(f"a vector of length {norm:.3f} where 1 is promised")
    if image.embedding.space_id != text.embedding.space_id:
        raise Broken("the image's and the text's vectors are of two spaces")
    return f"{image.embedding.dimension} numbers in space {image.embedding.space_id}"


async def caption(mesh: SmokeMesh) -> str:
    """Caption one image."""
    request = caption_pb2.CaptionImagesRequest(images=[common_pb2.Image(content=mesh.images[0])])
    [result] = (await mesh.call(mesh.captioner.CaptionImages, request)).results
    if result.HasField("error"):
        raise from_status(result.error)
    if not result.caption.text.strip():
        raise Broken("the caption is empty")
    return f'"{result.caption.text}" by {result.caption.model}'


async def ingest(mesh: SmokeMesh) -> str:
    """Ingest two images into a collection of this run's own."""
    mesh.wrote = True
    for name, image in zip(mesh.ids, mesh.images, strict=True):
        item = router_pb2.IngestItem(id=name, image=common_pb2.Image(content=image))
        json_format.ParseDict({"smoke": name}, item.metadata)
        options = router_pb2.IngestOptions(collection=mesh.collection)
        try:
            answer = await mesh.traced(mesh.router.Ingest, router_pb2.IngestRequest(options=options, item=item))
        except NotBuilt:
            mesh.wrote = False
            raise Broken(f"{mesh.options.target} is no router", NOT_A_ROUTER) from None
        if answer.item.outcome != search_pb2.UPSERT_OUTCOME_CREATED:
            raise Broken(f"{name}: {search_pb2.UpsertOutcome.Name(answer.item.outcome)} instead of created")
    return f"{len(mesh.ids)} images into {mesh.collection}"


async def search(mesh: SmokeMesh) -> str:
    """Search by image, by words, and with a filter."""
    image = router_pb2.Query(image=common_pb2.Image(content=mesh.images[0]))
    text = router_pb2.Query(text="a blue square")
    found = await _hits(mesh, router_pb2.SearchRequest(queries=[image]))
    if not found or found[0][0] != mesh.ids[0] or found[0][1] < 0.99:
        raise Broken(f"searched for by itself an image is not found first: {found}")
    if len(by_words := await _hits(mesh, router_pb2.SearchRequest(queries=[text]))) != len(mesh.ids):
        raise Broken(f"a search by words finds {len(by_words)} of {len(mesh.ids)} items")
    condition = search_pb2.Condition(field="smoke", equals=struct_pb2.Value(string_value=mesh.ids[1]))
    filtered = router_pb2.SearchRequest(queries=[text], filter=search_pb2.Filter(condition=condition))
    if [name for name, _ in await _hits(mesh, filtered)] != [mesh.ids[1]]:
        raise Broken("a filter on metadata finds the wrong items")
    return f"by image (score {found[0][1]:.4f}), by words, with a filter"


async def _hits(mesh: SmokeMesh, request: router_pb2.SearchRequest) -> list[tuple[str, float]]:
    request.collection, request.limit = mesh.collection, 5
    answer = await mesh.call(mesh.router.Search, request)
    return [(hit.item.id, hit.score) for hit in answer.hits]


async def delete(mesh: SmokeMesh) -> str:
    """Delete the items, then the collection, and check that they are gone."""
    ids = search_pb2.IdList(ids=mesh.ids)
    gone = await mesh.call(mesh.search.DeleteItems, search_pb2.DeleteItemsRequest(collection=mesh.collection, ids=ids))
    await clean_up(mesh)
    if gone.deleted_count != len(mesh.ids):
        raise Broken(f"{gone.deleted_count} items were there to delete, not {len(mesh.ids)}")
    return f"{gone.deleted_count} items and {mesh.collection}"


async def clean_up(mesh: SmokeMesh) -> None:
    """Delete the collection with everything in it, and check that it is gone."""
    await mesh.call(mesh.search.DeleteCollection, search_pb2.DeleteCollectionRequest(name=mesh.collection))
    try:
        await mesh.call(mesh.search.GetCollection, search_pb2.GetCollectionRequest(name=mesh.collection))
    except NotFound:
        mesh.wrote = False
        return
    raise Broken(f"{mesh.collection} is still there after it was deleted")


STEPS = (
    SmokeStep("health", health, needs=()),
    SmokeStep("services", services),
    SmokeStep("reflection", reflection),
    SmokeStep("encode", encode),
    SmokeStep("caption", caption),
    SmokeStep("ingest", ingest),
    SmokeStep("search", search, needs=("ingest",)),
    SmokeStep("http", door, needs=("ingest",)),
    SmokeStep("trace", trace, needs=("ingest",)),
    SmokeStep("delete", delete, needs=("ingest",)),
)
