"""What an image file says of itself in its first bytes: kind, size, orientation, and whether decoding it is safe.

Reads bytes only; Pillow is not needed here, and nothing is decoded. `demo.images` is what callers want.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import islice

from demo.errors import ImageRejected
from demo.settings import (
    MAX_FRAMES,
    MAX_JPEG_PIXELS,
    MAX_JPEG_SCANS_TIMES_PIXELS,
    MAX_PIXELS,
    MAX_SIDE_RATIO,
    MAX_TIFF_ENTRIES,
)

EXTENSIONS = {
    "JPEG": "jpg",
    "PNG": "png",
    "WebP": "webp",
    "GIF": "gif",
    "BMP": "bmp",
    "TIFF": "tif",
    "AVIF": "avif",
    "HEIC": "heic",
}
PREFIXES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "BigTIFF",
    b"MM\0+": "BigTIFF",
    b"8BPS": "PSD",
    b"%!PS": "EPS",
    b"\xc5\xd0\xd3\xc6": "EPS",
    b"%PDF": "PDF",
}
HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"mif1", b"msf1")
TIFF_UNIT_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}
TIFF_SUBDIRECTORIES = (34665, 34853, 40965)
ORIENTATION = 0x0112


def kind_of(data: bytes) -> str:
    """The kind of image by its content, a key of EXTENSIONS. Raises ImageRejected for everything else."""
    if not data:
        raise ImageRejected("The file is empty.", "It has 0 bytes.", "Save or download it again.")
    kind = next((name for prefix, name in PREFIXES.items() if data.startswith(prefix)), None)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        kind = "WebP"
    elif data[4:8] == b"ftyp":
        brands = data[8 : max(12, min(int.from_bytes(data[:4], "big"), 128))]
        heif = any(brand in brands for brand in HEIF_BRANDS)
        kind = "AVIF" if b"avif" in brands or b"avis" in brands else "HEIC" if heif else "video"
    elif kind is None and b"<svg" in data[:4096].lower():
        kind = "SVG"
    if kind in EXTENSIONS:
        return kind
    what = f"This is a {kind} file." if kind else "This is not a picture."
    raise ImageRejected(what, f"By its content it is none of {', '.join(EXTENSIONS)}.", "Export it as JPEG or PNG.")


def check_size(kind: str, width: int, height: int) -> None:
    """Raises ImageRejected for too many pixels, and for a strip that a resize by its short side would blow up."""
    most = MAX_JPEG_PIXELS if kind == "JPEG" else MAX_PIXELS
    if width * height > most:
        raise ImageRejected(
            f"This {kind} has {width} × {height} pixels ({width * height / 1e6:.0f} megapixels).",
            f"At most {most // 10**6} megapixels are decoded.",
            "Save it smaller." if kind == "JPEG" else "Save it smaller, or as a baseline JPEG.",
        )
    if max(width, height) > MAX_SIDE_RATIO * min(width, height):
        raise ImageRejected(
            f"This {kind} has {width} × {height} pixels.",
            f"One side is over {MAX_SIDE_RATIO} times the other.",
            "Crop it.",
        )


def check_frames(kind: str, frames: int) -> None:
    """Raises ImageRejected for an animation too long to open for its first frame."""
    if frames > MAX_FRAMES:
        raise ImageRejected(
            f"This {kind} has {frames} frames.", f"At most {MAX_FRAMES} are opened.", "Export one frame as JPEG."
        )


def check_webp(data: bytes) -> None:
    """Refuse by header, as WebP's decoder sets aside the canvas twice when it opens. Raises ImageRejected."""
    chunk, body = data[12:16], data[20:30]
    if chunk == b"VP8X":
        check_size("WebP", int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1)
    check_frames("WebP", data.count(b"ANMF"))


def check_tiff(data: bytes) -> None:
    """Refuse a directory whose values overlap: Pillow copies each, so a few kilobytes can ask for gigabytes.

    Raises ImageRejected, and struct.error where the directory is cut off.
    """
    entries, total = 0, 0
    for _tag, size, _value in _tiff_entries(data, TIFF_SUBDIRECTORIES):
        entries, total = entries + 1, total + size
        if entries > MAX_TIFF_ENTRIES or total > len(data):
            raise ImageRejected("This TIFF's directory is larger than the file.", next_step="Save it as JPEG or PNG.")


def check_jpeg(data: bytes, size: tuple[int, int], progressive: bool, first_scan: int, components: int) -> None:
    """Refuse what a small JPEG can cost: many scans, or a large one that is held whole before it is shrunk.

    first_scan: offset of the first start-of-scan marker; components: of the frame. Raises ImageRejected.
    """
    pixels = size[0] * size[1]
    held_whole = progressive or data[first_scan + 4 : first_scan + 5] != bytes([components])
    if held_whole and pixels > MAX_PIXELS:
        raise ImageRejected(
            f"This JPEG has {pixels / 1e6:.0f} megapixels and is progressive.",
            f"Over {MAX_PIXELS // 10**6} megapixels only baseline JPEGs are decoded.",
            "Save it smaller, or as a baseline JPEG.",
        )
    scans = data.count(b"\xff\xda")
    if scans * pixels > MAX_JPEG_SCANS_TIMES_PIXELS and scans > 3:
        raise ImageRejected(f"This JPEG has {scans} scans.", "Decoding them would take too long.", "Save it again.")


def jpeg_exif(data: bytes) -> bytes:
    """The EXIF of a JPEG from its TIFF header on, b"" where there is none."""
    start = data.find(b"Exif\0\0", 0, 2**18)
    return data[start + 6 : start + 65536] if start > 4 and data[start - 4 : start - 2] == b"\xff\xe1" else b""


def orientation(exif: bytes) -> int:
    """The EXIF orientation, 1 to 8; 1 (upright) where it is missing or cannot be read."""
    exif = exif.removeprefix(b"Exif\0\0")
    try:
        entries = islice(_tiff_entries(exif), MAX_TIFF_ENTRIES)
        turn = next((value for tag, _size, value in entries if tag == ORIENTATION), 1)
    except struct.error:
        return 1
    return turn if 1 <= turn <= 8 else 1


def _tiff_entries(
    tiff: bytes, subdirectories: tuple[int, ...] = (), offset: int | None = None, depth: int = 0
) -> Iterator[tuple[int, int, int]]:
    """(tag, bytes of the value, value or its offset) of the first directory and those named. Raises struct.error."""
    order = ">" if tiff[:2] == b"MM" else "<"
    start = struct.unpack_from(order + "I", tiff, 4)[0] if offset is None else offset
    (count,) = struct.unpack_from(order + "H", tiff, start)
    for at in range(start + 2, start + 2 + 12 * count, 12):
        tag, unit, number = struct.unpack_from(order + "HHI", tiff, at)
        (value,) = struct.unpack_from(order + ("H" if unit == 3 else "I"), tiff, at + 8)
        yield tag, number * TIFF_UNIT_BYTES.get(unit, 0), value
        if tag in subdirectories and depth < 2:
            yield from _tiff_entries(tiff, subdirectories, value, depth + 1)
