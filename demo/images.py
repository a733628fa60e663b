"""The only place that decodes images: bytes in, one upright image out, or ImageRejected.

Promises: the kind is read from the content, never from a name; at most 25 megapixels are decoded (a larger
JPEG arrives at a half, a quarter or an eighth of its size); Pillow is not shown the EXIF of a JPEG or AVIF, since
a few kilobytes of it can ask for gigabytes; whatever is wrong with the bytes ends as ImageRejected.
Does not promise: colour management (ICC profiles are ignored), XMP orientation, or more than the first frame of an
animation and the first page of a TIFF. HEIC is decoded where pillow-heif is installed.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from demo import image_headers as headers
from demo.errors import BadInput, ImageRejected
from demo.settings import MAX_IMAGE_BYTES, MAX_PIXELS

# Pillow's own check, for whoever else decodes in this process (Gradio does): it refuses twice this many.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", module=r"PIL\.")

# Pictures of up to 50 MB come and go here. Between Pillow's blocks of 16 MB the holes of what is freed stay empty, and
# a server that was sent a photo of 48 megapixels as text grew by up to 158 MB; with these by up to 133.
Image.core.set_block_size(4 * 2**20)

# Called directly and not by Image.open, which warns between 12.5 and 25 megapixels and refuses a large JPEG.
OPENERS: dict[str, Callable[[io.BytesIO], ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WebP": WebPImagePlugin.WebPImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "AVIF": AvifImagePlugin.AvifImageFile,
}
SUFFIXES = frozenset(
    f".{suffix}"
    for kind in ("jpg jpeg jpe jfif mpo", "png apng", "webp", "gif", "bmp dib", "tif tiff", "avif", "heic heif")
    for suffix in kind.split()
)
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(data: bytes, max_bytes: int = MAX_IMAGE_BYTES) -> Image.Image:
    """The picture in `data`: mode RGB, or RGBA where it has transparency, turned as its EXIF says, at most 25 MP.

    16-bit grey is scaled to 8 bits, not clipped. Raises ImageRejected.
    """
    return _decode(data, max_bytes)


def on_white(image: Image.Image) -> Image.Image:
    """A decoded image in mode RGB, what is transparent painted onto white."""
    if image.mode != "RGBA":
        return image.convert("RGB")
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image.getchannel("A"))
    return white


def extension(data: bytes) -> str:
    """The usual extension for what the content is, without a dot ('jpg', 'png', …). Raises ImageRejected."""
    return headers.EXTENSIONS[headers.kind_of(data)]


def thumbnail(picture: bytes | Image.Image, side: int) -> bytes:
    """A JPEG of at most `side` × `side` pixels, for tables, transparency on white. Raises ImageRejected."""
    image = on_white(picture if isinstance(picture, Image.Image) else _decode(picture, MAX_IMAGE_BYTES, 2 * side))
    image.thumbnail((side, side), reducing_gap=3.0)
    target = io.BytesIO()
    image.save(target, "JPEG", quality=85)
    return target.getvalue()


def find_images(paths: Iterable[str | Path]) -> list[Path]:
    """The files named, and in the folders named and below them every file with an image's suffix, sorted by path.

    Hidden files and folders are skipped unless named; no path comes twice. Raises BadInput for a missing one.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if path.is_dir():
            inside = []
            for folder, folders, names in os.walk(path):
                folders[:] = [name for name in folders if not name.startswith(".")]
                inside += [Path(folder, name) for name in names if not name.startswith(".")]
            found.update(dict.fromkeys(sorted(file for file in inside if file.suffix.lower() in SUFFIXES)))
        elif path.exists():
            found[path] = None
        else:
            raise BadInput(f"{path} is not there.", next_step="Name image files, or folders that hold them.")
    return list(found)


def _decode(data: bytes, max_bytes: int, enough: int | None = None) -> Image.Image:
    """decode(), where `enough` is a shorter side in pixels that a JPEG need not exceed."""
    if len(data) > max_bytes:
        raise ImageRejected(
            f"The file has {len(data) / 2**20:.1f} MB.",
            f"At most {max_bytes / 2**20:.0f} MB are decoded.",
            "Save it smaller and try again.",
        )
    kind = headers.kind_of(data)
    try:
        with _open(kind, data, enough) as image:
            image.load()
            exif = headers.jpeg_exif(data) if kind == "JPEG" else image.info.get("exif", b"")
            turn = None if kind in ("TIFF", "HEIC") else TURNS.get(headers.orientation(exif))  # turned already
            return _to_8_bit_colour(image if turn is None else image.transpose(turn))
    except ImageRejected:
        raise
    except MemoryError:
        raise ImageRejected(f"This {kind} needs more memory than there is.", next_step="Save it smaller.") from None
    except Exception as error:  # hostile bytes make Pillow raise nearly anything
        why = str(error).strip().rstrip(".") or type(error).__name__
        raise ImageRejected(
            f"This {kind} cannot be decoded.", f"It is damaged or cut off ({why}).", "Save or download it again."
        ) from error


def _open(kind: str, data: bytes, enough: int | None) -> ImageFile.ImageFile:
    """The image opened and found safe to decode; a large JPEG is set to arrive smaller."""
    if kind == "WebP":
        headers.check_webp(data)
    elif kind == "TIFF":
        headers.check_tiff(data)
    elif kind == "HEIC":
        return _open_heic(data)
    image = OPENERS[kind](io.BytesIO(data.replace(b"Exif", b"\0\0\0\0") if kind in ("JPEG", "AVIF") else data))
    headers.check_size(kind, *image.size)
    if kind == "AVIF":
        headers.check_frames(kind, image.n_frames)
    elif kind == "JPEG":
        width, height = image.size
        first_scan = data.rfind(b"\xff\xda", 0, image.fp.tell())
        headers.check_jpeg(data, image.size, "progressive" in image.info, first_scan, image.layers)
        shrink = 1
        if width * height > MAX_PIXELS:
            shrink = next(by for by in (2, 4, 8) if width * height / by**2 <= MAX_PIXELS / 2)
        while enough and shrink < 8 and min(width, height) // (2 * shrink) >= enough:
            shrink *= 2
        if shrink > 1:
            image.draft("RGB", (width // shrink, height // shrink))
    return image


def _open_heic(data: bytes) -> Image.Image:
    """The primary image of a HEIC, turned as it says: its EXIF repeats that and is not heeded."""
    try:
        import pillow_heif
    except ImportError:
        raise ImageRejected(
            "This is a HEIC picture.",
            "They are read where the package pillow-heif is installed: pip install pillow-heif.",
            "Or export it as JPEG, or set an iPhone to Settings > Camera > Formats > Most Compatible.",
        ) from None
    found = pillow_heif.open_heif(io.BytesIO(data))
    headers.check_size("HEIC", *found.size)
    return found.to_pillow()


def _to_8_bit_colour(image: Image.Image) -> Image.Image:
    """Any mode that Pillow decodes, in mode RGB, or RGBA where it has transparency."""
    if image.mode.startswith("I") or image.mode == "F":
        image = _to_8_bits(image)
    if image.has_transparency_data:
        return image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")  # to what it is already would copy it


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Grey of mode I;16, I or F, scaled to mode L.

    I;16 spans 0 to 65535. I (up to 32 bits) and F carry no range: they span 0 to 1 (F only), 255 or 65535, the
    first that holds their highest value, else 0 to that value.
    """
    if image.mode.startswith("I;16"):
        table = np.round(np.arange(65536) / 257).astype(np.uint8)
        return Image.fromarray(table[np.asarray(image)])
    values = np.nan_to_num(np.array(image, dtype=np.float32), copy=False, posinf=0.0)
    spans = (1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0)
    highest = next((span for span in spans if values.max() <= span), float(values.max()))
    values *= np.float32(255.0 / highest)
    values += np.float32(0.5)
    return Image.fromarray(np.clip(values, 0, 255, out=values).astype(np.uint8))
