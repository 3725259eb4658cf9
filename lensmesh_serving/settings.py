"""Settings of every model service; a service's own class adds its prefix and its models."""

from typing import Literal

from pydantic import Field, SecretStr, field_validator

from lensmesh_chassis.images.fetch_settings import FetchSettings
from lensmesh_inference.backends.folder import compiled_folder
from lensmesh_inference.cache import redis_address
from lensmesh_inference.devices import cpu_count
from lensmesh_inference.images.limits import DecodeCosts, ImageLimits
from lensmesh_inference.options import BatchingOptions, CacheOptions, ComputeOptions, DecodeOptions, HealthOptions


class ModelServiceSettings(FetchSettings):
    """Settings of what is served, on what, and how much of it at a time."""

    model: str = Field(default="auto", description="Models to serve, comma-separated, the first is the default.")
    real_model: str = Field(
        description="What `auto` takes where torch and the weights are on this machine; it never downloads."
    )
    allow_download: bool = Field(
        default=True, description="Whether weights of a model that is named in `model` may be fetched from their hub."
    )
    device: str = Field(
        default="auto",
        description="auto (the first GPU, else the CPU), cpu, cpu:N (N workers that share its cores), cuda, cuda:N, or "
        "several of them, comma-separated: all take batches from one queue.",
    )
    backend: Literal["auto", "torch", "openvino"] = Field(
        default="auto", description="What computes; auto: on CPUs the faster one, measured at the first start."
    )
    precision: Literal["auto", "float32", "bfloat16", "float16", "int8"] = Field(
        default="auto",
        description="auto: the faster of bfloat16, where the hardware has it, and float32. int8: the encoder's "
        "images, by openvino, in a vector space of its own.",
    )
    compiled_dir: str = Field(
        default="auto",
        description="Folder that keeps compiled models and what was measured; auto: lensmesh in the user's cache "
        "folder (XDG_CACHE_HOME, else ~/.cache); empty: everything is made anew at each start.",
    )
    threads: int = Field(
        default=0,
        ge=0,
        description="CPU threads of one forward pass, shared by the workers of cpu:N; 0: as many as there are CPUs for "
        "this process: its affinity, and a container's CPU quota (cgroup v1 and v2) rounded down, at least 1.",
    )
    decode_threads: int = Field(
        default=0,
        ge=0,
        description="Threads that decode images; 0: as many as CPUs, or two more than there are `decode_processes`.",
    )
    decode_processes: int = Field(
        default=-1,
        ge=-1,
        description="Processes that decode images, for machines with more cores than one Python process keeps busy, "
        "each some 320 MB; 0: threads decode. -1: 0, but for a model on a GPU and more than 8 cores one for each core "
        "but 4, at most 32. Images whose headers do not prove them cheap have processes of their own in any case.",
    )
    decode_memory_bytes: int = Field(
        default=1536 * 1024**2,
        ge=64 * 1024**2,
        description="Memory that decoding takes at a time, as the images' headers tell: a third for those that are "
        "decoded in threads, two thirds for the others. Images wait for room; one that takes more than two thirds is "
        "refused (IMAGE_TOO_COSTLY).",
    )
    decode_seconds: float = Field(
        default=10,
        gt=0,
        description="Seconds on a processor that decoding an image may take whose header does not prove it cheap; "
        "then it is refused (IMAGE_TOO_COSTLY). On a busy machine it gets thirty times as long by the clock.",
    )
    state_dir: str = Field(
        default="auto",
        description="Folder that keeps which images were being decoded when a process ended, so that the next one "
        "decodes them with care; auto: lensmesh/decoding in the user's cache folder (XDG_CACHE_HOME, else ~/.cache); "
        "empty: that is not kept.",
    )
    scaled_decoding: bool = Field(
        default=True,
        description="Whether a JPEG image is decoded at a half, a quarter or an eighth of its size where at least "
        "twice the model's size is left: several times faster, less than a grey level from open_clip on average.",
    )
    message_bytes: int = Field(
        default=256 * 1024**2,
        ge=1024**2,
        description="Bytes of messages, of all calls, that are received and worked on. Where they are "
        "reached no more is read; a call that waits for that for 5 s is refused (OVERLOADED).",
    )
    max_batch: int = Field(default=32, ge=1, description="Items in one forward pass.")
    max_queue_items: int = Field(default=2048, ge=1, description="Items waiting in each lane of one model.")
    max_queue_bytes: int = Field(default=1024**3, ge=1, description="Bytes waiting in each lane of one model.")
    max_wait_seconds: float = Field(
        default=60,
        gt=0,
        description="Calls whose predicted wait for the device is longer are refused with that wait; streams are read "
        "no further from half of it.",
    )
    linger_ms: float = Field(
        default=20,
        ge=0,
        description="Longest time that a bulk batch which is not full waits for items that are being decoded, at most "
        "as long as it will take; interactive items never wait. 0: never.",
    )
    bulk_batch_ms: float = Field(
        default=500,
        gt=0,
        description="While interactive calls come, a bulk batch is made no larger than takes so long (or as long as an "
        "interactive batch), as predicted, but not so small that much throughput is lost: it is what the next "
        "interactive call waits for.",
    )
    stream_items: int = Field(default=256, ge=1, description="Items of one stream in flight before reading stops.")
    stream_bytes: int = Field(default=64 * 1024**2, ge=1, description="Bytes of one stream in flight before that.")
    canary_seconds: float = Field(
        default=60,
        ge=0,
        description="Seconds between two questions to each model whose answer is known, which health depends on; 0: "
        "only at start.",
    )
    canary_timeout_seconds: float = Field(
        default=120,
        gt=0,
        description="Longest time for that answer, what waits before it included, before health fails; a model that "
        "does other work meanwhile gets more.",
    )
    hang_seconds: float = Field(
        default=5,
        ge=0,
        description="A batch in the device for longer than this, and longer than 5 times what was predicted, has hung: "
        "the service says NOT_SERVING and why, and its process ends with code 70; the first batch of its kind gets "
        "three times as long. So does one whose event loop is blocked for 6 times as long, or in which preparing one "
        "item takes 24 times as long. 0: never.",
    )
    cache_bytes: int = Field(
        default=64 * 1024**2,
        ge=0,
        description="Memory for results, by the digest of what was sent, so that equal items are computed once. 0, and "
        "no redis_url: none, and every item is computed, equal ones at the same time too.",
    )
    redis_url: SecretStr = Field(
        default=SecretStr(""),
        description="A Redis where replicas share results: redis://USER:PASSWORD@HOST:PORT/DATABASE, rediss://... "
        "(TLS) or unix:///PATH?db=DATABASE. It may be away at any time. Empty: none.",
    )
    redis_ttl_seconds: int = Field(
        default=7 * 24 * 3600, ge=0, description="How long a result stays in the Redis; 0: until it needs the room."
    )
    max_items: int = Field(default=256, ge=1, description="Items in one call or one stream message.")
    max_image_bytes: int = Field(default=20 * 1024**2, ge=1, description="Bytes of one encoded image.")
    max_image_pixels: int = Field(default=50_000_000, ge=1, description="Width times height of one image.")
    max_text_chars: int = Field(default=10_000, ge=1, description="Characters of one text or prompt.")

    @field_validator("redis_url")
    @classmethod
    def _redis_is_an_address(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value():
            redis_address.check(value.get_secret_value())
        return value

    @property
    def image_limits(self) -> ImageLimits:
        """Limits of what one image may be."""
        return ImageLimits(max_bytes=self.max_image_bytes, max_pixels=self.max_image_pixels)

    @property
    def compute_options(self) -> ComputeOptions:
        """On what models are computed."""
        return ComputeOptions(
            device=self.device,
            backend=self.backend,
            precision=self.precision,
            threads=self.threads or cpu_count(),
            max_batch=self.max_batch,
            folder=compiled_folder(self.compiled_dir),
        )

    @property
    def decode_options(self) -> DecodeOptions:
        """Options of how images are decoded."""
        return DecodeOptions(
            limits=self.image_limits,
            costs=DecodeCosts(
                memory_bytes=self.decode_memory_bytes, cpu_s=self.decode_seconds, state_dir=self.state_dir
            ),
            threads=self.decode_threads,
            processes=self.decode_processes,
            scaled=self.scaled_decoding,
        )

    @property
    def batching_options(self) -> BatchingOptions:
        """Each model's queue and batches."""
        return BatchingOptions(
            max_batch=self.max_batch,
            max_queue_items=self.max_queue_items,
            max_queue_bytes=self.max_queue_bytes,
            max_wait_s=self.max_wait_seconds,
            linger_s=self.linger_ms / 1000,
            bulk_batch_s=self.bulk_batch_ms / 1000,
        )

    @property
    def health_options(self) -> HealthOptions:
        """Options of how models are watched."""
        return HealthOptions(
            canary_s=self.canary_seconds,
            canary_timeout_s=self.canary_timeout_seconds,
            hang_s=self.hang_seconds,
        )

    @property
    def cache_options(self) -> CacheOptions:
        """Options of where results are kept."""
        return CacheOptions(
            memory_bytes=self.cache_bytes,
            redis_url=self.redis_url.get_secret_value(),
            redis_ttl_s=self.redis_ttl_seconds,
        )
