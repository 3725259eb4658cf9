"""`python -m http_svc`: serves the mesh behind a Router by HTTP."""

import lensmesh_chassis.process.grpc_log_level  # noqa: F401 - for its effect, which gRPC reads at its import
from http_svc.app import HttpApp
from http_svc.serving.listeners import HttpListeners
from http_svc.settings import HttpSettings
from lensmesh_chassis.process.memory import give_back_large
from lensmesh_chassis.process.server import run
from lensmesh_chassis.settings import load_settings

if __name__ == "__main__":
    # Nearly all that it does is passing images on.
    give_back_large()
    run(load_settings(HttpSettings), HttpApp, "http", listeners=HttpListeners)
