"""Images without what their files say beside the picture: where, when and with what it was taken, notes, previews.

Promises: JPEG, PNG, WebP and GIF keep every byte of the picture; what is left out are whole segments: EXIF with GPS,
maker notes and thumbnails, XMP, IPTC, comments, unknown ones, and whatever follows the end of the picture, such as the
video of a motion photo. Kept are the colour profile and how the picture is turned, as EXIF of that one number. Other
kinds, and files whose segments cannot be followed, are encoded anew, upright: HEIC and AVIF as JPEG, the rest as PNG.
Does not promise that a picture shows nothing private, nor that a colour profile does not name a screen.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from PIL import Image

from demo import image_headers as headers
from demo.images import decode

JPEG_QUALITY = 95
"""Of HEIC and AVIF, which compress with loss already; with colour at full resolution nobody sees a difference."""

_Unreadable = (ValueError, IndexError, struct.error)

_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # what ends a JPEG's scan: no stuffed byte, no restart
_JPEG_PICTURE = {*range(0xC0, 0xD0), 0xDB, 0xDD} - {0xC8}  # frame, tables; the others are skipped by decoders
_PNG_PICTURE = frozenset(
    b"IHDR PLTE tRNS IDAT IEND cHRM gAMA iCCP sBIT sRGB cICP mDCV cLLI bKGD pHYs acTL fcTL fdAT".split()
)
_WEBP_PICTURE = frozenset((b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF", b"ICCP"))
_GIF_LOOPS = (b"NETSCAPE2.0", b"ANIMEXTS1.0")


Reading = Callable[[Path], tuple[bytes, str]]
"""Gives an image file's bytes and its suffix. May raise FileNotFoundError and ImageRejected."""


def as_it_is(path: Path) -> tuple[bytes, str]:
    return path.read_bytes(), path.suffix


def bare(path: Path) -> tuple[bytes, str]:
    data, extension = without_metadata(path.read_bytes())
    return data, f".{extension}"


def without_metadata(data: bytes) -> tuple[bytes, str]:
    """The picture in `data` alone, and its extension ('jpg', 'png', …). Done twice it is the same.

    Raises ImageRejected for what is no picture.
    """
    kind = headers.kind_of(data)
    if kind in _STRIPPERS:
        try:
            return _STRIPPERS[kind](data), headers.EXTENSIONS[kind]
        except _Unreadable:
            pass
    return _encoded(data, kind)


def _jpeg(data: bytes) -> bytes:
    kept = [data[:2]]
    if (turn := headers.orientation(headers.jpeg_exif(data))) != 1:
        exif = b"Exif\0\0" + _only_turned(turn)
        kept.append(b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif)
    at = 2
    while True:
        while data[at] == 0xFF and data[at + 1] == 0xFF:  # fill bytes
            at += 1
        if data[at] != 0xFF:
            raise ValueError("a marker is missing")
        marker = data[at + 1]
        if marker == 0xD9:
            return b"".join([*kept, b"\xff\xd9"])
        (length,) = struct.unpack_from(">H", data, at + 2)
        end = at + 2 + length
        if length < 2 or end > len(data):
            raise ValueError("a segment is cut off")
        payload = data[at + 4 : end]
        if marker == 0xDA:
            found = _MARKER.search(data, end)
            kept.append(data[at : found.start() if found else len(data)])
            if found is None:  # the end is missing, which decoders forgive
                return b"".join([*kept, b"\xff\xd9"])
            end = found.start()
        elif marker == 0xE0 and payload.startswith(b"JFIF\0") and len(payload) >= 14:
            kept.append(b"\xff\xe0\x00\x10" + payload[:12] + b"\0\0")  # without its thumbnail
        elif marker == 0xEE and payload.startswith(b"Adobe") and len(payload) >= 12:
            kept.append(b"\xff\xee\x00\x0e" + payload[:12])  # how its colours are meant
        elif marker in _JPEG_PICTURE or (marker == 0xE2 and payload.startswith(b"ICC_PROFILE\0")):
            kept.append(data[at:end])
        at = end


def _png(data: bytes) -> bytes:
    kept, turn, at, kind = [data[:8]], 1, 8, b""
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            raise ValueError("a chunk is cut off")
        if kind == b"eXIf":
            turn = headers.orientation(data[at + 8 : end - 4])
        elif kind in _PNG_PICTURE:
            kept.append(data[at:end])
        at = end
    if turn != 1:
        chunk = b"eXIf" + _only_turned(turn)
        kept.insert(2, struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)))
    return b"".join(kept)


def _webp(data: bytes) -> bytes:
    kept, turn = [], 1
    for kind, payload in _riff(data[12 : 8 + int.from_bytes(data[4:8], "little")]):
        if kind == b"EXIF":
            turn = headers.orientation(payload)
        elif kind == b"ANMF":  # a frame: where it stands, then chunks of its own
            frame = b"".join(_chunk(*part) for part in _riff(payload[16:]) if part[0] in (b"ALPH", b"VP8 ", b"VP8L"))
            kept.append((kind, payload[:16] + frame))
        elif kind in _WEBP_PICTURE:
            kept.append((kind, payload))
    if kept[0][0] == b"VP8X":  # says which other chunks there are
        flags = kept[0][1][0] & ~0x0C | (0x08 if turn != 1 else 0)
        kept[0] = (b"VP8X", bytes([flags]) + kept[0][1][1:])
        if turn != 1:
            kept.append((b"EXIF", _only_turned(turn)))
    body = b"WEBP" + b"".join(_chunk(*part) for part in kept)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _riff(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, at)
        if at + 8 + length > len(data):
            raise ValueError("a chunk is cut off")
        yield kind, data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2


def _chunk(kind: bytes, payload: bytes) -> bytes:
    return kind + struct.pack("<I", len(payload)) + payload + b"\0" * (len(payload) % 2)


def _gif(data: bytes) -> bytes:
    at = 13 + _palette(data[10])
    kept = [data[:at]]
    while data[at] != 0x3B:
        is_frame, label = data[at] == 0x2C, data[at + 1]
        if not is_frame and data[at] != 0x21:
            raise ValueError("a block is of no known kind")
        blocks = at + 11 + _palette(data[at + 9]) if is_frame else at + 2
        end = _after_blocks(data, blocks)
        if is_frame or label == 0xF9 or (label == 0xFF and data[at + 3 : at + 14] in _GIF_LOOPS):
            kept.append(data[at:end])
        at = end
    return b"".join([*kept, b"\x3b"])


def _palette(flags: int) -> int:
    """Bytes of the palette that these flags announce."""
    return 3 * 2 ** (flags % 8 + 1) if flags & 0x80 else 0


def _after_blocks(data: bytes, at: int) -> int:
    while data[at]:
        at += 1 + data[at]
    return at + 1


_STRIPPERS: dict[str, Callable[[bytes], bytes]] = {"JPEG": _jpeg, "PNG": _png, "WebP": _webp, "GIF": _gif}


def _only_turned(turn: int) -> bytes:
    """EXIF that holds an orientation, 2 to 8, and nothing else."""
    return struct.pack(">2sHIHHHIHHI", b"MM", 42, 8, 1, headers.ORIENTATION, 3, 1, turn, 0, 0)


def _encoded(data: bytes, kind: str) -> tuple[bytes, str]:
    image, target = decode(data), io.BytesIO()
    image = Image.frombytes(image.mode, image.size, image.tobytes())  # nothing but pixels: Pillow keeps comments
    if kind in ("JPEG", "HEIC", "AVIF") and image.mode == "RGB":
        image.save(target, "JPEG", quality=JPEG_QUALITY, subsampling=0)
        return target.getvalue(), "jpg"
    image.save(target, "PNG")
    return target.getvalue(), "png"
