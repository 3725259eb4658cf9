"""The three kinds of service behind a router."""

from enum import Enum

from lensmesh_chassis.reasons import Reason


class Kind(Enum):
    """A kind of service: its gRPC name, what people call it, the reason where none answers, the router's setting."""

    ENCODER = ("lensmesh.encoder.v1.EncoderService", "encoder", Reason.ENCODER_UNAVAILABLE, "encoder_targets")
    CAPTIONER = ("lensmesh.caption.v1.CaptionerService", "captioner", Reason.CAPTIONER_UNAVAILABLE, "caption_targets")
    SEARCH = ("lensmesh.search.v1.SearchService", "search service", Reason.SEARCH_UNAVAILABLE, "search_targets")

    def __init__(self, service: str, noun: str, unavailable: Reason, setting: str) -> None:
        self.service = service
        self.noun = noun
        self.unavailable = unavailable
        self.setting = setting
