"""`python -m router_svc`: serves RouterService and, passed on, the contracts of the mesh behind it."""

import lensmesh_chassis.process.grpc_log_level  # noqa: F401 - for its effect, which gRPC reads at its import
from lensmesh_chassis.process.memory import give_back_large
from lensmesh_chassis.process.server import run
from lensmesh_chassis.settings import load_settings
from router_svc.app import RouterApp
from router_svc.settings import RouterSettings

if __name__ == "__main__":
    # Nearly all that it does is passing images on.
    give_back_large()
    run(load_settings(RouterSettings), RouterApp, "router")
