"""An image on its way from its bytes to a verdict."""

from dataclasses import dataclass, field

from lensmesh.encoder.v1 import encoder_pb2
from router_svc.matching.candidates import CandidateItem
from router_svc.matching.local_points import LocalPoints
from router_svc.matching.looks import LEAST_QUALITY
from router_svc.matching.verdicts import Judgement
from router_svc.upstreams.images import NO_IMAGE, PackedImage


@dataclass(slots=True, eq=False)
class ImageWork:
    """One image of a call, and what has become of it."""

    index: int
    image: PackedImage = NO_IMAGE
    digest: bytes = b""
    """SHA-256 of its bytes; none where they are not here."""
    encoded: encoder_pb2.EncodeResult | None = None
    candidates: list[CandidateItem] = field(default_factory=list)
    """The most promising first."""
    points: LocalPoints | None = None
    """Its local features, where they can be compared with the collection's."""
    judgement: Judgement | None = None
    store_us: int = 0
    verify_us: int = 0
    error: Exception | None = None
    """Error because of which nothing is known of it."""

    @property
    def path(self) -> str:
        """Its path in the caller's request."""
        return f"images[{self.index}]"

    @property
    def result(self) -> encoder_pb2.EncodeResult:
        """What the encoder made of it. It has been encoded."""
        assert self.encoded is not None
        return self.encoded

    @property
    def has_hash(self) -> bool:
        """True where it has a perceptual hash that says enough."""
        return self.result.HasField("perceptual_hash") and self.result.perceptual_hash.quality >= LEAST_QUALITY
