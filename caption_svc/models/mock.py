"""A captioner without a model, for people who develop callers. Imports no torch.

The words and the confidence come from the SHA-256 of the image's bytes: always the same, different from image to
image.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from caption_svc.model import Caption, CaptionerFacts, CaptionerInput, Plan, Worker
from lensmesh_inference.devices import DeviceFacts, describe_cpu
from lensmesh_inference.digest import content_digest
from lensmesh_inference.images.decoder import ImageDecoder
from lensmesh_inference.images.transparency import Transparency
from lensmesh_inference.models import ModelKind

_COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "grey", "white", "black", "golden",
            "silver", "turquoise", "crimson", "beige")  # fmt: skip
_THINGS = ("boat", "lamp", "chair", "kettle", "bridge", "clock", "tree", "bicycle", "window", "basket", "mountain",
           "guitar", "umbrella", "lantern", "suitcase", "teapot")  # fmt: skip
_PLACES = ("beside", "behind", "above", "under", "in front of", "on top of", "near", "inside")


class MockCaptioner:
    """A `CaptionModel` whose answers are derived from the content's digest."""

    def __init__(self, name: str = "mock") -> None:
        self.facts = CaptionerFacts(
            name=name,
            weights_digest=content_digest(b"lensmesh mock captioner, version 1"),
            kind=ModelKind.MOCK,
            backend="mock",
            precision="",
            requested_device="cpu",
        )
        self.input_bytes = hashlib.sha256().digest_size

    def devices(self) -> Sequence[DeviceFacts]:
        """Return the CPU alone."""
        return [describe_cpu(1)]

    def plan(self, prompt: str, max_tokens: int, beams: int) -> Plan:
        """Make a plan without tokens of the prompt: a token is a word here."""
        return Plan(prompt, (), max_tokens, beams)

    def prepare(
        self, content: bytes, decoder: ImageDecoder, field: str, transparency: Transparency = Transparency.DROP
    ) -> bytes:
        """Return the SHA-256 of the encoded image, which is decoded so that a bad one fails as with a real model.

        On white the digest is of what can be seen, as in the mock encoder.
        """
        decoded = decoder.check(content, field, transparency=transparency)
        return hashlib.sha256(content).digest() if transparency is Transparency.DROP else decoded.digest()

    def workers(self) -> Sequence[Worker]:
        return [self.caption]

    def caption(self, inputs: Sequence[CaptionerInput]) -> list[Caption]:
        """Return one caption for each digest."""
        return [_caption(one) for one in inputs]


def _caption(one: CaptionerInput) -> Caption:
    digest: bytes = one.pixels
    words = (
        f"a {_COLOURS[digest[0] % 16]} {_THINGS[digest[1] % 16]} {_PLACES[digest[2] % 8]} "
        f"a {_COLOURS[digest[3] % 16]} {_THINGS[digest[4] % 16]}"
    ).split()
    # As with a real model, the end counts as a token.
    truncated = len(words) + 1 > one.plan.max_tokens
    words = words[: one.plan.max_tokens]
    prompt = one.plan.prompt.split()
    for count in range(1, len(words) + 1):
        if one.on_text is None or one.abandoned.is_set():
            break
        one.on_text(" ".join([*prompt, *words[:count]]))
    return Caption(
        text=" ".join([*prompt, *words]),
        confidence=0.5 + int.from_bytes(digest[5:7], "big") / 131_072,
        token_count=len(words) + (not truncated),
        truncated=truncated,
    )
