"""Start search: ``python -m search_svc``. Settings are environment variables with the prefix LENSMESH_SEARCH_."""

import lensmesh_chassis.process.grpc_log_level  # noqa: F401 - for its effect, which gRPC reads at its import
from lensmesh_chassis.process.memory import give_back_large
from lensmesh_chassis.process.server import run
from lensmesh_chassis.settings import load_settings
from search_svc.app import SearchApp
from search_svc.settings import SearchSettings


def main() -> None:
    """Run search until a signal ends it."""
    give_back_large()
    run(load_settings(SearchSettings), SearchApp, "search")


if __name__ == "__main__":
    main()
