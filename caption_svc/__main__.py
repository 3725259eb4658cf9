"""The captioner's entry point: ``python -m caption_svc``.

Settings are environment variables with the prefix LENSMESH_CAPTION_.
"""

import lensmesh_chassis.process.grpc_log_level  # noqa: F401 - for its effect, which gRPC reads at its import
from caption_svc.app import CaptionApp
from caption_svc.settings import CaptionSettings
from lensmesh_chassis.process.server import run
from lensmesh_chassis.settings import load_settings


def main() -> None:
    """Run the captioner until a signal ends it."""
    run(load_settings(CaptionSettings), CaptionApp, "caption")


if __name__ == "__main__":
    main()
