"""A client interceptor that passes the request id on."""

from lensmesh_chassis.contract import REQUEST_ID_KEY
from lensmesh_chassis.rpc.client_calls import BeginCall, OutgoingCall
from lensmesh_chassis.rpc.handlers import RpcMethod
from lensmesh_chassis.rpc.request_id import request_id


class RequestIdForwarding:
    """Puts the id of the call that is served now into the metadata of each call made for it."""

    def around(self, _method: RpcMethod) -> BeginCall:
        return _forward


def _forward(call: OutgoingCall) -> None:
    current = request_id.get()
    if current and all(key != REQUEST_ID_KEY for key, _ in call.metadata):
        call.metadata.append((REQUEST_ID_KEY, current))
