"""Cached values as bytes: what is damaged, foreign or of another version is no value."""

from hypothesis import given
from hypothesis import strategies as st

from lensmesh_inference.cache.envelope import seal, unseal


@given(key=st.text(), payload=st.binary(max_size=200))
def test_what_was_sealed_is_unsealed(key: str, payload: bytes) -> None:
    assert unseal(key, seal(key, payload)) == payload


@given(key=st.text(max_size=20), payload=st.binary(max_size=50), at=st.integers(0, 56), flip=st.integers(1, 255))
def test_every_damaged_byte_is_found(key: str, payload: bytes, at: int, flip: int) -> None:
    frame = bytearray(seal(key, payload))
    frame[at % len(frame)] ^= flip
    assert unseal(key, bytes(frame)) is None


@given(st.binary(max_size=40))
def test_foreign_bytes_are_no_value(garbage: bytes) -> None:
    assert unseal("lensmesh:1:a", garbage) is None


def test_a_frame_cut_short_is_no_value() -> None:
    frame = seal("a", b"payload")
    assert all(unseal("a", frame[:length]) is None for length in range(len(frame)))


def test_a_value_under_another_key_is_none() -> None:
    assert unseal("b", seal("a", b"payload")) is None


def test_the_format_stays_as_it_is_written_down() -> None:
    """Replicas of two releases share a Redis: other bytes need another version."""
    assert seal("lensmesh:1:a", b"xyz").hex() == "4c4d017ba6f8a678797a"
