"""Pictures lose what their files say beside them, and not a pixel."""

from __future__ import annotations

import io
import random
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from demo.errors import ImageRejected
from demo.image_headers import kind_of
from demo.images import decode
from demo.strip_metadata import without_metadata

CANARY = b"canary"
XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>canary 52.5200N 13.4050E</x:xmpmeta>"
LOSSLESS = {
    "JPEG": {"quality": 90},
    "progressive JPEG": {"format": "JPEG", "progressive": True},
    "JPEG with restarts": {"format": "JPEG", "restart_marker_rows": 1},
    "grey JPEG": {"format": "JPEG", "mode": "L"},
    "CMYK JPEG": {"format": "JPEG", "mode": "CMYK"},
    "PNG": {},
    "palette PNG": {"format": "PNG", "mode": "P"},
    "transparent PNG": {"format": "PNG", "mode": "RGBA"},
    "WebP": {"quality": 80},
    "lossless WebP": {"format": "WebP", "lossless": True},
    "transparent WebP": {"format": "WebP", "mode": "RGBA"},
    "animated WebP": {"format": "WebP", "save_all": True, "frames": 3},
    "GIF": {"mode": "P"},
    "animated GIF": {"format": "GIF", "save_all": True, "frames": 3, "loop": 0},
}
ENCODED = {"BMP": "png", "TIFF": "png", "AVIF": "jpg"}


def picture(mode: str = "RGB", seed: int = 0) -> Image.Image:
    channels = 4 if mode == "RGBA" else 3
    blocks = np.random.default_rng(seed).integers(0, 256, (5, 7, channels), dtype=np.uint8)
    image = Image.fromarray(blocks).resize((61, 43), Image.Resampling.BICUBIC)
    return image if mode == "RGBA" else image.convert(mode)


def exif(turn: int) -> bytes:
    told = Image.Exif()
    told[0x0112], told[0x010F] = turn, "canary camera"
    told.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 12.0), 29: "canary date"})
    told.get_ifd(0x8769).update({0x9286: b"canary comment", 0x927C: b"canary maker note"})
    return told.tobytes()


def told(kind: str, turn: int = 1) -> bytes:
    """A file with all that its kind can say beside the picture."""
    arguments = dict(LOSSLESS.get(kind, {}))
    image_format, mode = arguments.pop("format", kind), arguments.pop("mode", "RGB")
    frames = [picture(mode, seed) for seed in range(arguments.pop("frames", 1))]
    arguments |= {"append_images": frames[1:]} if len(frames) > 1 else {}
    if image_format in ("JPEG", "PNG", "WebP", "AVIF", "TIFF"):
        arguments["exif"] = exif(turn)
    if image_format in ("JPEG", "PNG", "WebP") and mode == "RGB":
        arguments["icc_profile"] = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    if image_format in ("JPEG", "WebP", "AVIF"):
        arguments["xmp"] = XMP
    if image_format in ("JPEG", "GIF"):
        arguments["comment"] = b"canary comment"
    if image_format == "PNG":
        arguments["pnginfo"] = PngImagePlugin.PngInfo()
        arguments["pnginfo"].add_text("Location", "canary")
        arguments["pnginfo"].add_itxt("XML:com.adobe.xmp", XMP.decode())
        arguments["pnginfo"].add(b"prVt", b"canary chunk", after_idat=True)
    target = io.BytesIO()
    frames[0].save(target, image_format, **arguments)
    return target.getvalue() + b"canary video of a motion photo"


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(decode(data))


@pytest.mark.parametrize("kind", LOSSLESS)
def test_a_file_that_tells_much_tells_nothing_and_shows_the_same(kind):
    data = told(kind)
    assert data.count(CANARY) > 1 or kind in ("animated WebP", "GIF")
    bare, extension = without_metadata(data)
    assert CANARY not in bare
    assert np.array_equal(pixels(bare), pixels(data))
    assert kind_of(bare) == kind_of(data)
    assert extension in ("jpg", "png", "webp", "gif")
    assert without_metadata(bare) == (bare, extension)
    with Image.open(io.BytesIO(data)) as before, Image.open(io.BytesIO(bare)) as after:
        assert after.info.get("icc_profile") == before.info.get("icc_profile")
        assert not after.getexif()
        assert getattr(after, "n_frames", 1) == getattr(before, "n_frames", 1)
        assert after.info.get("loop") == before.info.get("loop")
        assert {"comment", "xmp", "exif", "photoshop", "Location"}.isdisjoint(after.info)


@pytest.mark.parametrize("turn", range(2, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP", "transparent WebP"])
def test_how_a_picture_is_turned_is_all_that_stays_of_its_exif(kind, turn):
    data = told(kind, turn)
    bare, _ = without_metadata(data)
    assert CANARY not in bare
    assert np.array_equal(pixels(bare), pixels(data))
    assert not np.array_equal(pixels(bare).shape, pixels(told(kind)).shape) or not np.array_equal(
        pixels(bare), pixels(told(kind))
    )
    with Image.open(io.BytesIO(bare)) as image:
        assert dict(image.getexif()) == {0x0112: turn}
    assert without_metadata(bare)[0] == bare


@pytest.mark.parametrize("kind", ENCODED)
def test_other_kinds_are_encoded_anew_upright_and_all_but_the_same(kind):
    data = told(kind, 6)
    bare, extension = without_metadata(data)
    assert extension == ENCODED[kind]
    assert CANARY not in bare
    difference = np.abs(pixels(bare).astype(int) - pixels(data))
    assert difference.max() <= (0 if extension == "png" else 12)
    assert difference.mean() < 2
    assert without_metadata(bare) == (bare, extension)


def test_a_photo_of_a_phone_becomes_a_jpeg():
    heif = pytest.importorskip("pillow_heif")
    target = io.BytesIO()
    heif.from_pillow(picture()).save(target, exif=exif(1), quality=90)
    bare, extension = without_metadata(target.getvalue())
    assert (extension, kind_of(bare)) == ("jpg", "JPEG")
    assert CANARY not in bare
    assert np.abs(pixels(bare).astype(int) - pixels(target.getvalue())).mean() < 2


def test_the_thumbnails_that_a_jpeg_holds_go_and_what_follows_it_too():
    target = io.BytesIO()
    picture().save(target, "JPEG")
    data = target.getvalue()
    jfif = b"JFIF\0\1\2\0\0\1\0\1" + bytes([2, 2]) + b"canary rgb!!"
    extra = b"JFXX\0\x10canary"
    segments = b"".join(b"\xff\xe0" + struct.pack(">H", len(part) + 2) + part for part in (jfif, extra))
    second = b"\xff\xe2" + struct.pack(">H", 14) + b"MPF\0canary.."
    with_more = data[:2] + segments + second + data[20:] + data
    bare, _ = without_metadata(with_more)
    assert CANARY not in bare
    assert np.array_equal(pixels(bare), pixels(data))
    assert len(bare) == len(data)


def test_a_jpeg_without_its_end_stays_readable():
    target = io.BytesIO()
    picture().save(target, "JPEG", comment=CANARY)
    bare, _ = without_metadata(target.getvalue()[:-2])
    assert CANARY not in bare
    assert np.array_equal(pixels(bare), pixels(target.getvalue()))


def test_a_file_whose_segments_cannot_be_followed_is_encoded_anew():
    target = io.BytesIO()
    picture().save(target, "PNG")
    chunk = b"tEXtLocation\0canary"
    data = target.getvalue()[:-12] + struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    bare, extension = without_metadata(data)  # it has no IEND
    assert extension == "png"
    assert CANARY not in bare
    assert np.array_equal(pixels(bare), pixels(target.getvalue()))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP", "GIF"])
def test_damaged_files_are_stripped_or_refused(kind):
    rng, data, stripped = random.Random(kind), told(kind), 0
    for _ in range(300):
        damaged = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        if rng.random() < 0.3:
            del damaged[rng.randrange(len(damaged)) :]
        try:
            bare, _ = without_metadata(bytes(damaged))
            decode(bytes(damaged))
        except ImageRejected:  # what does not decode is never saved
            continue
        stripped += 1
        assert b"52.5200N" not in bare
        assert b"camera" not in bare
        assert b"video" not in bare
    assert stripped > (0 if kind == "PNG" else 30)  # whose checksums leave little that decodes


def test_what_is_no_picture_is_refused():
    with pytest.raises(ImageRejected):
        without_metadata(b"text")
