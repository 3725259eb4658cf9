"""The stored vectors of the bundled CLIP are what plain open_clip computes today."""

from __future__ import annotations

import numpy as np

from lensmesh_shapes import golden


def test_open_clip_computes_them_again() -> None:
    stored = golden.read()
    images, texts = golden.compute(stored.images, stored.texts)
    for known, now in ((stored.image_vectors, images), (stored.text_vectors, texts)):
        assert known.shape == now.shape
        cosines = (known * now).sum(axis=1) / np.linalg.norm(known, axis=1) / np.linalg.norm(now, axis=1)
        assert cosines.min() > 0.99999
    assert len(stored.images) >= 4
    assert len(stored.texts) >= 4
    # They tell one from another: a model that answered alike to everything would not pass for this one.
    unit = stored.image_vectors / np.linalg.norm(stored.image_vectors, axis=1, keepdims=True)
    assert (unit @ unit.T - np.eye(len(unit))).max() < 0.99
