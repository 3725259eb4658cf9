"""Settings of the captioner, each an environment variable with the prefix LENSMESH_CAPTION_."""

from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from lensmesh_chassis.fetching import FetchSettings
from lensmesh_inference.images import ImageLimits


class CaptionSettings(FetchSettings):
    """What the captioner serves, on what, and how much of it at a time."""

    model_config = SettingsConfigDict(env_prefix="LENSMESH_CAPTION_", frozen=True)

    listen: str = "127.0.0.1:50052"

    model: str = Field(
        default="auto",
        description="Models to serve, comma-separated, the first is the default: auto, shapes, mock, ORG/NAME of a "
        "BLIP captioner on the hub, local-dir:/PATH or a path.",
    )
    real_model: str = Field(
        default="Salesforce/blip-image-captioning-base",
        description="What `auto` takes where torch and the weights are on this machine; it never downloads.",
    )
    allow_download: bool = Field(
        default=True, description="Whether weights of a model that is named in `model` may be fetched from the hub."
    )
    device: str = Field(default="auto", description="auto, cpu, cuda or cuda:N.")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="auto: bfloat16 where the hardware has it, else float32."
    )
    threads: int = Field(default=0, ge=0, description="CPU threads of one forward pass; 0: as many as there are CPUs.")
    decode_threads: int = Field(default=0, ge=0, description="Threads that decode pictures; 0: as many as CPUs.")
    max_batch: int = Field(default=16, ge=1, description="Pictures that are captioned together.")
    max_queue_items: int = Field(default=512, ge=1, description="Items waiting in each lane of one model.")
    max_queue_bytes: int = Field(default=1024**3, ge=1, description="Bytes waiting in each lane of one model.")
    stream_items: int = Field(default=64, ge=1, description="Items of one stream in flight before reading stops.")
    stream_bytes: int = Field(default=64 * 1024**2, ge=1, description="Bytes of one stream in flight before that.")
    canary_seconds: float = Field(
        default=60,
        ge=0,
        description="Seconds between two captions of a known picture that health depends on; 0: only at start.",
    )
    canary_timeout_seconds: float = Field(
        default=120,
        gt=0,
        description="Longest time for that caption, what waits before it included, before health fails.",
    )
    max_items: int = Field(default=64, ge=1, description="Items in one call or one stream message.")
    max_image_bytes: int = Field(default=20 * 1024**2, ge=1, description="Bytes of one encoded picture.")
    max_image_pixels: int = Field(default=50_000_000, ge=1, description="Width times height of one picture.")
    max_text_chars: int = Field(default=10_000, ge=1, description="Characters of a prompt.")
    max_caption_tokens: int = Field(default=100, ge=1, description="Largest CaptionOptions.max_tokens.")
    default_caption_tokens: int = Field(
        default=30, ge=1, description="What CaptionOptions.max_tokens of 0 means, cut to max_caption_tokens."
    )

    @property
    def image_limits(self) -> ImageLimits:
        """What one picture may be."""
        return ImageLimits(max_bytes=self.max_image_bytes, max_pixels=self.max_image_pixels)

    @property
    def usual_caption_tokens(self) -> int:
        """What CaptionOptions.max_tokens of 0 means."""
        return min(self.default_caption_tokens, self.max_caption_tokens)
