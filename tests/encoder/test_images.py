"""Images in the encoder: decoded in processes, and by open_clip's own code where ours does not know how."""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from encoder_svc.models.preprocessing import preprocessing_of
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.images.decoder import ImageDecoder
from lensmesh_inference.images.limits import ImageLimits
from lensmesh_inference.images.transform import Transform, UnknownTransformError
from tests.encoder.helpers import failure, image, png, serving, vector

CONFIG = {"size": 24, "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4), "resize_mode": "longest", "fill_color": 9}


async def test_a_service_that_decodes_in_processes() -> None:
    images = [image(number) for number in range(4)]
    images[2].content = b"no image"
    options = encoder_pb2.EncodeOptions(local_features=True)
    request = encoder_pb2.EncodeImagesRequest(images=images, options=options)
    answers = []
    for processes in (0, 1):
        async with serving(model="shapes", precision="float32", decode_processes=processes, cache_bytes=0) as served:
            pids = served.engine.pool.decoder.pids
            # Warm before it serves: no caller waits for a process to start.
            assert len(pids) == processes
            assert all(psutil.pid_exists(pid) for pid in pids)
            answers.append((await served.stub.EncodeImages(request)).results)
        assert not any(psutil.pid_exists(pid) for pid in pids)
    for number, (in_thread, in_process) in enumerate(zip(*answers, strict=True)):
        if number == 2:
            assert failure(in_process.error).reason is Reason.IMAGE_UNDECODABLE
            assert in_process.error == in_thread.error
        else:
            np.testing.assert_allclose(vector(in_process.embedding), vector(in_thread.embedding), atol=1e-6)
            assert in_process.local_features == in_thread.local_features
            assert in_process.local_features.points


def test_a_way_to_resize_that_is_new_to_us_is_left_to_open_clip(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unknown(config: Mapping[str, Any]) -> Transform:
        raise UnknownTransformError("resize_mode 'stretch'")

    # As a release of open_clip after this one may have it; today's knows no more than we do.
    monkeypatch.setattr(Transform, "from_open_clip", unknown)
    with caplog.at_level(logging.WARNING):
        prepared = preprocessing_of(CONFIG)
    assert "resize_mode 'stretch'" in caplog.text
    content = png(5, size=40)
    pixels = ImageDecoder(ImageLimits()).prepare(content, prepared.transform).pixels
    assert (pixels.dtype, tuple(pixels.shape)) == (torch.uint8, (3, 24, 24))
    with Image.open(io.BytesIO(content)) as opened:
        expected = prepared.library(opened)
    # All of it is open_clip's: nothing is rounded otherwise.
    torch.testing.assert_close(prepared.normalize.apply(pixels.unsqueeze(0), torch.float32)[0], expected)
