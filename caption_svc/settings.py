"""Settings of the captioner, each an environment variable with the prefix LENSMESH_CAPTION_."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from lensmesh_chassis.contract import local_address
from lensmesh_serving.settings import ModelServiceSettings


class CaptionSettings(ModelServiceSettings):
    """The captioner's settings: what it serves, on which devices, and how much of it at a time."""

    model_config = SettingsConfigDict(env_prefix="LENSMESH_CAPTION_", frozen=True)

    listen: str = local_address("caption")

    model: str = Field(
        default="auto",
        description="Models to serve, comma-separated, the first is the default: auto, shapes, mock, ORG/NAME of a "
        "BLIP captioner on the hub, local-dir:/PATH or a path.",
    )
    real_model: str = Field(
        default="Salesforce/blip-image-captioning-base",
        description="What `auto` takes where torch and the weights are on this machine; it never downloads.",
    )
    # A caption costs some fifteen embeddings: as much waiting is in far fewer items.
    max_batch: int = Field(default=16, ge=1, description="Images that are captioned together.")
    max_queue_items: int = Field(default=512, ge=1, description="Items waiting in each lane of one model.")
    stream_items: int = Field(default=64, ge=1, description="Items of one stream in flight before reading stops.")
    max_items: int = Field(default=64, ge=1, description="Items in one call or one stream message.")
    max_caption_tokens: int = Field(default=100, ge=1, description="Largest CaptionOptions.max_tokens.")
    default_caption_tokens: int = Field(
        default=30, ge=1, description="What CaptionOptions.max_tokens of 0 means, cut to max_caption_tokens."
    )

    @property
    def usual_caption_tokens(self) -> int:
        """The number of tokens that CaptionOptions.max_tokens of 0 means."""
        return min(self.default_caption_tokens, self.max_caption_tokens)
