"""The three kinds of service behind a router."""

from enum import Enum

from lensmesh_chassis.reasons import Reason


class Kind(Enum):
    """One kind of service: its full gRPC name, what people call it, and the reason to give when none answers."""

    ENCODER = ("lensmesh.encoder.v1.EncoderService", "encoder", Reason.ENCODER_UNAVAILABLE)
    CAPTIONER = ("lensmesh.caption.v1.CaptionerService", "captioner", Reason.CAPTIONER_UNAVAILABLE)
    SEARCH = ("lensmesh.search.v1.SearchService", "search service", Reason.SEARCH_UNAVAILABLE)

    def __init__(self, service: str, noun: str, unavailable: Reason) -> None:
        self.service = service
        self.noun = noun
        self.unavailable = unavailable
