"""Conversion of samples of any kind to bytes: which number becomes black and which becomes white.

What a file declares decides. Unsigned integers of less than 32 bits reach from 0 to all bits set; SMinSampleValue and
SMaxSampleValue give a range. Floating point numbers, signed integers and those of 32 and 64 bits declare nothing by
their kind. For these the smallest customary range counts that holds nearly all samples, those from the 0.1 to the 99.9
percentile, and of which at least a quarter is used: 0 to 1, -1 to 1, 0 to 255, 4,095, 65,535 or all bits. Where no
range does, these two percentiles become black and white. The same holds for unsigned integers of less than 32 bits
where the 99.9 percentile is at most a sixteenth of their range: cameras of 10 or 12 bits store such numbers in 16, and
the image would be all but black. No single sample decides.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Samples: TypeAlias = npt.NDArray[Any]

# About as many samples of an image as tell its percentiles.
SAMPLED: Final = 1 << 20
PERCENTILES: Final = (0.1, 99.9)
# Resampling with a filter that overshoots leaves numbers a little outside of a range.
_TOLERANCE: Final = 0.05
_LEAST_USE: Final = 0.25
_DARK: Final = 1 / 16
_MOST_LOOKUP_BITS: Final = 16
# What programs make by themselves of numbers of any range; 24 bits somebody chose.
_UNDECLARING_BITS: Final = (32, 64)
_FLOAT_RANGES: Final = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0), (0.0, 4095.0), (0.0, 65535.0))
_INTEGER_RANGES: Final = ((0.0, 255.0), (0.0, 1023.0), (0.0, 4095.0), (0.0, 16383.0), (0.0, 65535.0))
# As many samples as are converted at a time, which fit into a processor's cache.
_PIECE: Final = 1 << 16


class Range(NamedTuple):
    """The numbers that become black and white."""

    low: float
    high: float


def by_kind(dtype: np.dtype[Any], bits: int) -> Range | None:
    """Return the range that the kind of samples declares by itself. None: it declares none."""
    return Range(0, 2**bits - 1) if dtype.kind == "u" and bits not in _UNDECLARING_BITS else None


def narrowed(own: Range, samples: Samples) -> Range:
    """Return the range that the kind of unsigned samples declares, or a smaller one where nearly all would be black."""
    return by_percentiles(samples) if np.percentile(samples, PERCENTILES[1]) <= own.high * _DARK else own


def by_percentiles(samples: Samples) -> Range:
    """Return the range of samples that declare none, judged by some of them (a million or so are enough)."""
    numbers = samples.astype(np.float64)
    numbers = numbers[np.isfinite(numbers)]
    if not numbers.size:
        return Range(0, 1)
    low, high = (float(value) for value in np.percentile(numbers, PERCENTILES))
    for least, most in _customary(samples.dtype):
        slack = _TOLERANCE * (most - least)
        lowest_used = min(low, 0.0) if least < 0 else least
        if low >= least - slack and high <= most + slack and high - lowest_used >= _LEAST_USE * (most - least):
            return Range(least, most)
    return Range(low, high) if high > low else Range(low - 1, high + 1) if low else Range(0, 1)


def _customary(dtype: np.dtype[Any]) -> tuple[tuple[float, float], ...]:
    if dtype.kind == "f":
        return _FLOAT_RANGES
    info = np.iinfo(dtype)
    least, most = float(info.min), float(info.max)
    return (*(one for one in _INTEGER_RANGES if one[1] < most), (0.0, most), *([(least, most)] if least else []))


def to_bytes(samples: Samples, tones: Range) -> npt.NDArray[np.uint8]:
    """Convert samples to bytes of the same shape, clipped and rounded. NaN becomes black."""
    span = tones.high - tones.low
    if samples.dtype.kind == "u" and samples.dtype.itemsize * 8 <= _MOST_LOOKUP_BITS:
        levels = (np.arange(2 ** (samples.dtype.itemsize * 8)) - tones.low) * (255 / span)
        table = np.rint(levels.clip(0, 255)).astype(np.uint8)
        looked_up: npt.NDArray[np.uint8] = table[samples]
        return looked_up
    # Half a level is 23 bits less than float32 has.
    real = np.float64 if samples.dtype.itemsize > 4 else np.float32
    out = np.empty(samples.size, np.uint8)
    flat = samples.reshape(-1)
    with np.errstate(all="ignore"):
        for start in range(0, flat.size, _PIECE):
            piece = flat[start : start + _PIECE].astype(real)
            np.subtract(piece, real(tones.low), out=piece)
            np.multiply(piece, real(255 / span), out=piece)
            np.clip(piece, 0, 255, out=piece)
            if samples.dtype.kind == "f":
                np.nan_to_num(piece, copy=False)
            out[start : start + _PIECE] = np.rint(piece, out=piece)
    return out.reshape(samples.shape)
