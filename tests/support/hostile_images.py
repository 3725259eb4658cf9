"""Images that cost more than they should, made on the spot."""

from __future__ import annotations

import struct


def segment(marker: int, body: bytes) -> bytes:
    """A segment of a JPEG."""
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def scan_bomb(scans: int, side: int) -> bytes:
    """A grey progressive JPEG of side x side pixels. A scan is a few bytes and visits every block."""
    blocks = ((side + 7) // 8) ** 2
    one_code = bytes([1] + [0] * 15)
    runs, left = "", blocks
    while left > 0:
        # End of band for 2^14 to 2^15 - 1 blocks at once.
        number = max(16384, min(left, 32767))
        runs += "0" + format(number - 16384, "014b")
        left -= number
    runs += "1" * (-len(runs) % 8)
    data = int(runs, 2).to_bytes(len(runs) // 8, "big").replace(b"\xff", b"\xff\x00")
    return (
        b"\xff\xd8"
        + segment(0xDB, b"\x00" + bytes([1] * 64))
        + segment(0xC2, struct.pack(">BHHB", 8, side, side, 1) + bytes([1, 0x11, 0]))
        + segment(0xC4, b"\x00" + one_code + bytes([0]))
        + segment(0xC4, b"\x10" + one_code + bytes([0xE0]))
        + segment(0xDA, bytes([1, 1, 0, 0, 0, 0]))
        + bytes((blocks + 7) // 8)
        + (segment(0xDA, bytes([1, 1, 0, 1, 63, 0])) + data) * scans
        + b"\xff\xd9"
    )


def tiff(tags: list[tuple[int, int, int, int]], data: bytes = b"") -> bytes:
    """A little-endian TIFF of one page: tags as (number, type, count, value or place), then `data` behind them, which
    starts at 14 + 12 * len(tags)."""
    entries = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4) + data
