"""Asks a server's health and tells it by exit code, for container health checks:

``python -m lensmesh_chassis.process.probe 127.0.0.1:50059 [SERVICE]`` ends with 0 where the server, or that service, is
SERVING.
"""

import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

SECONDS = 4.0


def main(arguments: list[str]) -> int:
    """Ask and return an exit code. 0: serving. 1: not serving, or nobody answers. 2: wrong usage."""
    if not 1 <= len(arguments) <= 2:
        sys.stderr.write(f"{__doc__}\n")
        return 2
    request = health_pb2.HealthCheckRequest(service=arguments[1] if len(arguments) == 2 else "")
    # Never by a proxy that the environment names: gRPC would ask it even for 127.0.0.1.
    with grpc.insecure_channel(arguments[0], [("grpc.enable_http_proxy", 0)]) as channel:
        try:
            status = health_pb2_grpc.HealthStub(channel).Check(request, timeout=SECONDS).status
        except grpc.RpcError as error:
            sys.stderr.write(f"{arguments[0]}: {error.code().name}: {error.details()}\n")
            return 1
    sys.stderr.write(f"{arguments[0]}: {health_pb2.HealthCheckResponse.ServingStatus.Name(status)}\n")
    return 0 if status == health_pb2.HealthCheckResponse.SERVING else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
