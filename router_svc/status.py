"""RouterService.GetStatus: the whole mesh at one glance."""

from lensmesh.common.v1 import common_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh_chassis.process.server import Runtime
from router_svc.limits import JoinedLimits
from router_svc.media.media import Media
from router_svc.settings import RouterSettings
from router_svc.upstreams.kinds import Kind
from router_svc.upstreams.monitor import ReplicaMonitor
from router_svc.upstreams.replica import Condition, Info, Replica

_HEALTH = {
    Condition.SERVING: router_pb2.HEALTH_SERVING,
    Condition.NOT_SERVING: router_pb2.HEALTH_NOT_SERVING,
    Condition.UNREACHABLE: router_pb2.HEALTH_UNREACHABLE,
}


class MeshStatus:
    """Asks every replica now, and tells what each said."""

    def __init__(
        self,
        monitor: ReplicaMonitor,
        limits: JoinedLimits,
        runtime: Runtime[RouterSettings],
        default_collection: str,
        media: Media,
    ) -> None:
        self._monitor = monitor
        self._limits = limits
        self._runtime = runtime
        self._default_collection = default_collection
        self._media = media

    async def get(self) -> router_pb2.GetStatusResponse:
        """Tell of every replica of every service, the unreachable ones included, in the order of the settings."""
        await self._monitor.refresh()
        replicas = [replica for kind in Kind for replica in self._monitor.replicas(kind)]
        return router_pb2.GetStatusResponse(
            services=[_status(replica) for replica in replicas],
            limits=self._limits.of_all(replicas),
            server=self._runtime.server_info(),
            default_collection=self._default_collection,
            media=self._media.info(),
        )


def _status(replica: Replica) -> router_pb2.ServiceStatus:
    status = router_pb2.ServiceStatus(
        name=replica.kind.service,
        address=replica.address.address,
        health=_HEALTH[replica.condition],
        reason=replica.reason,
    )
    if replica.info and replica.condition is not Condition.UNREACHABLE:
        _fill(status, replica.info)
    return status


def _fill(status: router_pb2.ServiceStatus, info: Info) -> None:
    status.models.extend([served.model for served in info.served] or info.models)
    spaces: dict[str, common_pb2.VectorSpace] = {space.id: space for served in info.served for space in served.spaces}
    status.spaces.extend(spaces.values())
    status.store = info.store
    status.server.CopyFrom(info.server)
    status.limits.CopyFrom(info.limits)
