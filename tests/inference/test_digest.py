"""Digests are contract: what stands here as a golden value may never change."""

from __future__ import annotations

import hashlib
import struct

import numpy as np
import pytest
import torch

from lensmesh_inference.digest import Json, canonical_json, content_digest, json_digest, space_id, weights_digest

GOLDEN_WEIGHTS = "a135c4002d0e4497a0f997abe3b9c31447e45377f0855354aa112832fff29c95"


def test_content_digest() -> None:
    assert content_digest(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize(
    ("value", "spelling"),
    [
        # From RFC 8785, section 3.2.2 and appendix B.
        ([333333333.33333329, 1e30, 4.50, 2e-3, 1e-27], b"[333333333.3333333,1e+30,4.5,0.002,1e-27]"),
        ({"b": True, "a": None, "\u20ac": "\u000f\n"}, b'{"a":null,"b":true,"\xe2\x82\xac":"\\u000f\\n"}'),
        (-0.0, b"0"),
        ([1, 1.0, 224], b"[1,1,224]"),
        # Keys are sorted by UTF-16 code units: the emoji's surrogate comes before U+FB33.
        ({"\ufb33": 1, "\U0001f600": 2}, b'{"\xf0\x9f\x98\x80":2,"\xef\xac\xb3":1}'),
    ],
)
def test_canonical_json(value: Json, spelling: bytes) -> None:
    assert canonical_json(value) == spelling
    assert json_digest(value) == hashlib.sha256(spelling).hexdigest()


TENSORS = {
    "visual.weight": np.array([[1.0, -2.5], [0.0, 3e-8]], dtype=np.float32),
    "logit_scale": np.array(2.6592, dtype=np.float32),
    "empty": np.zeros((0, 3), dtype=np.float32),
}


def test_the_weights_digest_is_the_documented_encoding() -> None:
    encoded = b""
    for name in sorted(TENSORS):
        array = TENSORS[name]
        encoded += struct.pack("<I", len(name)) + name.encode()
        encoded += struct.pack("<I", array.ndim) + b"".join(struct.pack("<Q", side) for side in array.shape)
        encoded += array.astype("<f4").tobytes()
    assert weights_digest(TENSORS) == hashlib.sha256(encoded).hexdigest()
    assert weights_digest(TENSORS) == GOLDEN_WEIGHTS


def test_order_library_layout_and_precision_of_the_file_do_not_matter() -> None:
    expected = weights_digest(TENSORS)
    assert weights_digest(dict(reversed(TENSORS.items()))) == expected
    assert weights_digest({name: torch.from_numpy(array.copy()) for name, array in TENSORS.items()}) == expected
    transposed = {**TENSORS, "visual.weight": np.asfortranarray(TENSORS["visual.weight"])}
    assert weights_digest(transposed) == expected
    strided = torch.from_numpy(np.ascontiguousarray(TENSORS["visual.weight"].T)).T
    assert weights_digest({**TENSORS, "visual.weight": strided}) == expected
    halves = {"a": np.array([0.5, 2.0], dtype=np.float16)}
    assert weights_digest(halves) == weights_digest({"a": torch.tensor([0.5, 2.0])})
    assert weights_digest({"a": torch.tensor([0.5, 2.0], dtype=torch.bfloat16)}) == weights_digest(halves)
    assert weights_digest({"n": torch.tensor(3)}) == weights_digest({"n": torch.tensor(3.0)})


def test_name_shape_and_numbers_matter() -> None:
    digests = {
        weights_digest({"a": np.arange(6.0)}),
        weights_digest({"b": np.arange(6.0)}),
        weights_digest({"a": np.arange(6.0).reshape(2, 3)}),
        weights_digest({"a": np.arange(6.0).reshape(3, 2)}),
        weights_digest({"a": np.arange(6.0) + 1e-5}),
        weights_digest({"a": np.arange(3.0), "b": np.arange(3.0, 6.0)}),
        weights_digest({}),
    }
    assert len(digests) == 7


FACTS: dict[str, Json] = {
    "architecture": {"embed_dim": 512, "vision_cfg": {"layers": 12}},
    "dimension": 512,
    "normalized": True,
    "preprocessing": {"mean": [0.48145466, 0.4578275, 0.40821073], "size": [224, 224]},
    "quantization": "none",
    "weights_digest": "ab" * 32,
}


def test_space_id_golden_value() -> None:
    assert space_id(**FACTS) == "vs1-d6af29cf4c4549c7573f9ee4bb926b01"  # type: ignore[arg-type]  # the test varies the keywords by name


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("architecture", {"embed_dim": 512, "vision_cfg": {"layers": 13}}),
        ("dimension", 513),
        ("normalized", False),
        ("preprocessing", {"mean": [0.48145466, 0.4578275, 0.40821074], "size": [224, 224]}),
        ("quantization", "int8"),
        ("weights_digest", "ac" * 32),
    ],
)
def test_everything_that_changes_vectors_changes_the_space(key: str, value: Json) -> None:
    changed = space_id(**{**FACTS, key: value})  # type: ignore[arg-type]  # the test varies the keywords by name
    assert changed.startswith("vs1-")
    assert len(changed) == 36
    assert changed != space_id(**FACTS)  # type: ignore[arg-type]  # as above
