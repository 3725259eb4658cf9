"""Answers to watchers: whether the process lives, whether it is ready, and whether the mesh behind it is."""

from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from http_svc.answers import JSON
from http_svc.json_bodies import dump
from http_svc.mesh import Mesh
from http_svc.settings import HttpSettings
from lensmesh.router.v1 import router_pb2
from lensmesh_chassis.errors import LensmeshError
from lensmesh_chassis.process.server import Runtime

# A watcher that waits for longer takes the answer for a failure.
_ASK_SECONDS = 2.0


def probe_routes(runtime: Runtime[HttpSettings], mesh: Mesh) -> list[Route]:
    """Return the routes. `/healthz` tells of the whole mesh, `/livez`, `/readyz` and `/metrics` of this process."""

    async def livez(_request: Request) -> Response:
        return Response(dump({"status": "ok"}), media_type=JSON)

    async def readyz(_request: Request) -> Response:
        reason = runtime.health.reason()
        shown = {"status": "ok"} if not reason else {"status": "unavailable", "reason": reason}
        return Response(dump(shown), 503 if reason else 200, media_type=JSON)

    async def healthz(_request: Request) -> Response:
        try:
            status = await mesh.call(mesh.router.GetStatus, router_pb2.GetStatusRequest(), _ASK_SECONDS)
        except LensmeshError as error:
            return Response(dump({"status": "unavailable", "reason": error.message}), 503, media_type=JSON)
        services = [
            {
                "kind": each.name,
                "address": each.address,
                "serving": each.health == router_pb2.HEALTH_SERVING,
                "reason": each.reason,
            }
            for each in status.services
        ]
        fine = all(each["serving"] for each in services)
        return Response(dump({"status": "ok" if fine else "degraded", "services": services}), media_type=JSON)

    async def metrics(request: Request) -> Response:
        encode, media_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(runtime.registry), media_type=media_type)

    return [Route("/metrics", metrics), Route("/livez", livez), Route("/readyz", readyz), Route("/healthz", healthz)]
