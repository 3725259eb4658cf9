"""Matching: which entry of a collection an image shows, or that it shows none."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from http_svc.answers import json_answer
from http_svc.rest.context import RestContext
from http_svc.rest.filters import filter_of
from http_svc.rest.models import all_images
from http_svc.rest.models_asked import MatchBody, ThresholdsBody
from http_svc.rest.operations import OperationExample, PartField, RestOperation
from http_svc.rest.shapes import CandidateShape, FailureShape, GeometryShape, MatchedShape, MatchesShape
from http_svc.rest.sources import read_images
from http_svc.rest.values import ImageValues, failed, plain, word
from lensmesh.router.v1 import router_pb2
from lensmesh_client.guard import building


class MatchOperations:
    """POST /v1/match."""

    def __init__(self, context: RestContext) -> None:
        self._context = context

    async def match(self, request: Request) -> Response:
        """Tell what images show."""
        asked, sent = await read_images(request, MatchBody, self._context.settings)
        with building("match"):
            message = router_pb2.MatchImagesRequest(
                collection=asked.collection,
                images=all_images(asked.images, sent),
                entry_fields=asked.entry_fields,
                filter=filter_of(asked.filter),
                space=asked.space,
                candidates=asked.candidates,
                alternatives=asked.alternatives,
                thresholds=_thresholds(asked.thresholds),
            )
        mesh = self._context.mesh
        found = await mesh.call(mesh.router.MatchImages, message)
        values = await self._context.image_values(asked.collection)
        answer: MatchesShape = {"results": [_matched(each, asked.entry_fields, values) for each in found.results]}
        return json_answer(request, answer)


def _thresholds(asked: ThresholdsBody | None) -> router_pb2.MatchThresholds | None:
    return None if asked is None else router_pb2.MatchThresholds(match=asked.match, unsure=asked.unsure)


def _matched(result: router_pb2.MatchResult, fields: list[str], values: ImageValues) -> MatchedShape:
    if result.WhichOneof("outcome") != "match":
        return {"error": failed(result.error)}
    match = result.match
    return {
        "verdict": word(match.verdict, router_pb2.MatchVerdict, "MATCH_VERDICT_"),  # type: ignore[typeddict-item]  # a word
        "best": _candidate(match.best, fields, values) if match.HasField("best") else None,
        "alternatives": [_candidate(each, fields, values) for each in match.alternatives],
        "ambiguous": match.ambiguous,
    }


def _candidate(message: router_pb2.MatchCandidate, fields: list[str], values: ImageValues) -> CandidateShape:
    entry: dict[str, Any] | None = None
    if message.HasField("entry"):
        entry = dict(zip(fields, (plain(value) for value in message.entry.values), strict=False))
    return {
        "image": values.image(message.item),
        "entry": entry,
        "confidence": message.confidence,
        "basis": word(message.basis, router_pb2.MatchBasis, "MATCH_BASIS_"),
        "cosine": message.cosine if message.HasField("cosine") else None,
        "hash_distance": message.hash_distance if message.HasField("hash_distance") else None,
        "geometry": _geometry(message.geometry) if message.HasField("geometry") else None,
    }


def _geometry(message: router_pb2.MatchGeometry) -> GeometryShape:
    return {
        "inliers": message.inlier_count,
        "tentative": message.tentative_count,
        "query_points": message.query_point_count,
        "item_points": message.item_point_count,
        "places": message.place_count,
        "homography": list(message.homography),
        "pairs": list(message.pairs),
    }


def match_operations(context: RestContext) -> list[RestOperation]:
    """Return the operations."""
    own = MatchOperations(context)
    return [
        RestOperation(
            "POST",
            "/v1/match",
            "matchImages",
            "search",
            "Tell which entry of a collection images show",
            own.match,
            body=MatchBody,
            parts=(
                PartField("image", "An image; may repeat.", file=True, required=True, many=True),
                PartField("request", "All else, as the body of JSON has it."),
            ),
            answers={200: MatchesShape, 400: FailureShape, 404: FailureShape, 413: FailureShape},
            examples=(
                OperationExample(
                    "A file", parts=(("image", "@image"), ("request", '{"entry_fields": ["kind"], "alternatives": 2}'))
                ),
            ),
        ),
    ]
