"""Settings of the encoder, each an environment variable with the prefix LENSMESH_ENCODER_."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from lensmesh_chassis.contract import local_address
from lensmesh_serving.settings import ModelServiceSettings


class EncoderSettings(ModelServiceSettings):
    """The encoder's settings: what it serves, on which devices, and how much of it at a time."""

    model_config = SettingsConfigDict(env_prefix="LENSMESH_ENCODER_", frozen=True)

    listen: str = local_address("encoder")

    model: str = Field(
        default="auto",
        description="Models to serve, comma-separated, the first is the default: auto, shapes, mock, mock-768, "
        "ARCH/TAG of open_clip, hf-hub:ORG/NAME, local-dir:/PATH, ARCH@/PATH/TO/CHECKPOINT, ARCH/random (benchmarks).",
    )
    real_model: str = Field(
        default="ViT-B-32/laion2b_s34b_b79k",
        description="What `auto` takes where torch and the weights are on this machine; it never downloads.",
    )
    calibration_dir: str = Field(
        default="",
        description="Folder of some hundred typical images that int8 is calibrated on; empty: drawn scenes.",
    )
