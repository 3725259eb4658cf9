"""The encoder's entry point: ``python -m encoder_svc``.

Settings are environment variables with the prefix LENSMESH_ENCODER_.
"""

import lensmesh_chassis.process.grpc_log_level  # noqa: F401 - for its effect, which gRPC reads at its import
from encoder_svc.app import EncoderApp
from encoder_svc.settings import EncoderSettings
from lensmesh_chassis.process.server import run
from lensmesh_chassis.settings import load_settings


def main() -> None:
    """Run the encoder until a signal ends it."""
    run(load_settings(EncoderSettings), EncoderApp, "encoder")


if __name__ == "__main__":
    main()
