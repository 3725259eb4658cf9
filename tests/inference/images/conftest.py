"""The end of what decoders that tests of a module share have started."""

from collections.abc import Iterator

import pytest

from lensmesh_inference.images.decoder import ImageDecoder


@pytest.fixture(autouse=True, scope="module")
def decoder_ended(request: pytest.FixtureRequest) -> Iterator[None]:
    """End the processes of a module's DECODER: it decodes some formats in one of its own."""
    yield
    decoder: ImageDecoder | None = getattr(request.module, "DECODER", None)
    if decoder is not None:
        decoder.close()
