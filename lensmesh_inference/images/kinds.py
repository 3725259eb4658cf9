"""The names of file kinds that no decoder here reads, found by their content, for the text of an error."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

# What bytes at a place are called. Longer marks stand before those that they begin with.
_MARKS: Final[tuple[tuple[int, bytes, str], ...]] = (
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"II\xbc", "JPEG XR"),
    (0, b"FUJIFILMCCD-RAW", "a camera raw file (RAF)"),
    (0, b"II\x1a\0\0\0HEAPCCDR", "a camera raw file (CRW)"),
    (0, b"IIRO", "a camera raw file (ORF)"),
    (0, b"IIRS", "a camera raw file (ORF)"),
    (0, b"MMOR", "a camera raw file (ORF)"),
    (0, b"IIU\0", "a camera raw file (RW2)"),
    (0, b"\0MRM", "a camera raw file (MRW)"),
    (0, b"FOVb", "a camera raw file (X3F)"),
    (0, b"8BPS", "Photoshop (PSD)"),
    (0, b"\x76\x2f\x31\x01", "OpenEXR"),
    (0, b"#?RADIANCE", "Radiance HDR"),
    (0, b"#?RGBE", "Radiance HDR"),
    (0, b"DDS ", "DDS"),
    (0, b"qoif", "QOI"),
    (0, b"farbfeld", "farbfeld"),
    (0, b"BPG\xfb", "BPG"),
    (0, b"FLIF", "FLIF"),
    (0, b"gimp xcf", "GIMP (XCF)"),
    (0, b"icns", "Apple icon (ICNS)"),
    # Of images without a colour table: uncompressed ones begin as cursors do, which are at least one.
    (0, b"\0\0\2\0\0\0\0\0", "TGA"),
    (0, b"\0\0\3\0\0\0\0\0", "TGA"),
    (0, b"\0\0\x0a\0\0\0\0\0", "TGA"),
    (0, b"\0\0\x0b\0\0\0\0\0", "TGA"),
    (0, b"\0\0\1\0", "ICO"),
    (0, b"\0\0\2\0", "Windows cursor (CUR)"),
    (0, b"\xd7\xcd\xc6\x9a", "Windows metafile (WMF)"),
    (0, b"\x8aMNG", "MNG"),
    (0, b"\x8bJNG", "JNG"),
    (0, b"SDPX", "DPX"),
    (0, b"XPDS", "DPX"),
    (0, b"AT&TFORM", "DjVu"),
    (0, b"SIMPLE  =", "FITS"),
    (0, b"\x01\xda", "SGI image"),
    (0, b"\x59\xa6\x6a\x95", "Sun raster"),
    (0, b"/* XPM */", "XPM"),
    (0, b"BLP1", "BLP"),
    (0, b"BLP2", "BLP"),
    (0, b"GRIB", "GRIB"),
    (0, b"BUFR", "BUFR"),
    (0, b"(\0\0\0", "a bitmap without its file header (DIB)"),
    (4, b"\x11\xaf", "an animation (FLI)"),
    (4, b"\x12\xaf", "an animation (FLI)"),
    (0, b"%PDF", "PDF"),
    (0, b"%!PS", "PostScript or EPS"),
    (0, b"\xc5\xd0\xd3\xc6", "EPS"),
    (0, b"\x1aE\xdf\xa3", "a video (Matroska or WebM)"),
    (0, b"FLV\1", "a video (FLV)"),
    (0, b"\0\0\1\xba", "a video (MPEG)"),
    (0, b"\0\0\1\xb3", "a video (MPEG)"),
    (0, b"0&\xb2u\x8ef\xcf\x11", "a video (WMV)"),
    (0, b"OggS", "an Ogg recording"),
    (0, b"ID3", "a sound (MP3)"),
    (0, b"fLaC", "a sound (FLAC)"),
    (0, b"PK\3\4", "a ZIP archive or an office document"),
    (0, b"PK\5\6", "a ZIP archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"BZh", "a bzip2 archive"),
    (0, b"\xfd7zXZ\0", "an xz archive"),
    (0, b"(\xb5/\xfd", "a Zstandard archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (0, b"Rar!\x1a\7", "a RAR archive"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an older office document"),
    (0, b"\x89HDF\r\n\x1a\n", "HDF5"),
    (4, b"moov", "a video (QuickTime)"),
    (4, b"mdat", "a video (QuickTime)"),
    (4, b"wide", "a video (QuickTime)"),
    (8, b"AVI ", "a video (AVI)"),
    (8, b"WAVE", "a sound (WAVE)"),
    (8, b"ACON", "Windows animated cursor (ANI)"),
    (40, b" EMF", "Windows metafile (EMF)"),
    (128, b"DICM", "DICOM"),
    (257, b"ustar", "a tar archive"),
)
_PCX: Final = re.compile(rb"\x0a[\x00\x02-\x05]\x01[\x01\x02\x04\x08]")
_NETPBM: Final = re.compile(rb"P(?:[1-6]\s+[\d#]|7\nWIDTH|7\n#|[Ff]\s+\d)")
# ISO base media files (ISO/IEC 14496-12) differ by the brands in their first box.
_BRANDS: Final[Mapping[bytes, str]] = {
    b"avif": "AVIF",
    b"avis": "AVIF (a sequence)",
    b"heic": "HEIC",
    b"heix": "HEIC",
    b"heim": "HEIC",
    b"heis": "HEIC",
    b"hevc": "HEIC (a sequence)",
    b"hevx": "HEIC (a sequence)",
    b"hevm": "HEIC (a sequence)",
    b"hevs": "HEIC (a sequence)",
    b"crx ": "a camera raw file (CR3)",
    b"jp2 ": "JPEG 2000",
    b"jpx ": "JPEG 2000",
    b"jpm ": "JPEG 2000",
    b"mjp2": "a video (Motion JPEG 2000)",
    b"jxl ": "JPEG XL",
    b"qt  ": "a video (QuickTime)",
    b"M4A ": "a sound (M4A)",
    b"M4B ": "a sound (M4B)",
}
# These say only what family a file is of; the brands after them say more.
_FAMILIES: Final[Mapping[bytes, str]] = {
    b"mif1": "HEIF",
    b"mif2": "HEIF",
    b"msf1": "HEIF (a sequence)",
    b"miaf": "HEIF",
}
_TGA_END: Final = b"TRUEVISION-XFILE.\0"
# As far as a comment or a document type before the first element is followed.
_MARKUP_BYTES: Final = 16_384
_BEFORE_ROOT: Final = re.compile(
    r"\s+|<\?.*?\?>|<!--.*?-->|<!DOCTYPE\s+(\w+)(?:[^\[>]|\[[^\]]*\])*>", re.DOTALL | re.IGNORECASE
)
_ROOT: Final = re.compile(r"<(?:\w+:)?(\w+)")
_TEXT: Final = re.compile(rb"[\t\n\f\r\x1b\x20-\x7e\x80-\xff]*\Z")
_TEXT_BYTES: Final = 512


def kind_of(content: bytes) -> str | None:
    """Name the kind of an unsupported file by its content, such as "HEIC" or "a video (MP4)".

    Return None for an unknown one.
    """
    for start, mark, name in _MARKS:
        if content.startswith(mark, start):
            return name
    if content[4:8] == b"ftyp":
        return _of_brands(content)
    if _NETPBM.match(content):
        return "PNM"
    if _PCX.match(content):
        return "PCX"
    if content.endswith(_TGA_END):
        return "TGA"
    return _of_markup(content)


def is_text(content: bytes) -> bool:
    """Tell whether the beginning of a file is text in ASCII or UTF-8."""
    start = content[:_TEXT_BYTES]
    if not _TEXT.match(start):
        return False
    try:
        start.decode()
    except UnicodeDecodeError as error:
        # A character may be cut where the beginning ends.
        return error.start >= len(start) - 3 and len(content) > len(start)
    return True


def _of_brands(content: bytes) -> str:
    length = min(int.from_bytes(content[:4], "big"), 512)
    brands = [content[8:12], *(content[at : at + 4] for at in range(16, length - 3, 4))]
    for names in (_BRANDS, _FAMILIES):
        for brand in brands:
            if brand in names:
                return names[brand]
    return "a video (3GP)" if brands[0].startswith(b"3g") else "a video (MP4)"


def _of_markup(content: bytes) -> str | None:
    start = content[:_MARKUP_BYTES]
    encoding = "utf-16" if start.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    text = start.decode(encoding, "replace")
    at, declared = 0, text.startswith("<?xml")
    while match := _BEFORE_ROOT.match(text, at):
        at = match.end()
        if (match[1] or "").lower() in ("html", "svg"):
            return match[1].upper()
        declared = declared or match[0].startswith("<?xml")
    root = _ROOT.match(text, at)
    name = root[1].lower() if root else ""
    if name in ("svg", "html"):
        return name.upper()
    if name in ("head", "body", "title", "script", "meta", "div", "p", "h1", "table"):
        return "HTML"
    return "XML" if declared else None
