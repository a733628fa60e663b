"""demo.images on generated pictures of every kind, whole, hostile and broken."""

from __future__ import annotations

import contextlib
import io
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from demo import image_headers, images
from demo.errors import BadInput, ImageRejected
from demo.images import decode, extension, find_images, on_white, thumbnail
from demo.settings import MAX_IMAGE_BYTES

KINDS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tif", "AVIF": "avif"}
RED, WHITE = (255, 0, 0), (255, 255, 255)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    target = io.BytesIO()
    image.save(target, kind, **options)
    return target.getvalue()


def noise(width: int = 60, height: int = 40, seed: int = 0) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def png_header(width: int, height: int, bits: int = 8, color: int = 2) -> bytes:
    """A PNG of that size on paper, with next to nothing inside."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


def tiff(entries: list[tuple[int, int, int, int]], tail: bytes = b"") -> bytes:
    """A little-endian TIFF with one directory of (tag, type, count, value or offset)."""
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + b"\0\0\0\0" + tail


@pytest.mark.parametrize(("kind", "suffix"), KINDS.items())
def test_every_kind_becomes_rgb_and_has_its_usual_extension(kind: str, suffix: str) -> None:
    data = saved(noise(), kind)
    image = decode(data)
    assert (image.mode, image.size, extension(data)) == ("RGB", (60, 40), suffix)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_a_lossless_picture_keeps_every_pixel(kind: str) -> None:
    assert np.array_equal(decode(saved(noise(), kind)), noise())


@pytest.mark.parametrize("quality", [30, 75, 95])
def test_an_ordinary_jpeg_decodes_exactly_as_pillow_does(quality: int) -> None:
    data = saved(noise(), "JPEG", quality=quality)
    assert np.array_equal(decode(data), Image.open(io.BytesIO(data)))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {}),
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("AVIF", {}),
    ],
)
def test_exif_turns_the_picture_before_anything_else(kind: str, options: dict, orientation: int) -> None:
    exif = Image.Exif()
    exif[image_headers.ORIENTATION] = orientation
    data = saved(noise(), kind, exif=exif, **options)
    assert np.array_equal(decode(data), ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))


def test_a_turned_picture_stands_as_the_photographer_held_the_camera() -> None:
    upright = Image.new("RGB", (40, 60), "blue")
    upright.paste("red", (0, 0, 40, 20))
    exif = Image.Exif()
    exif[image_headers.ORIENTATION] = 6
    image = decode(saved(upright.transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif))
    assert (image.size, image.getpixel((20, 5)), image.getpixel((20, 50))) == ((40, 60), RED, (0, 0, 255))


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_leaves_the_picture_as_it_is(value: int) -> None:
    exif = Image.Exif()
    exif[image_headers.ORIENTATION] = value
    assert decode(saved(noise(), "JPEG", exif=exif)).size == (60, 40)


def test_broken_exif_leaves_the_picture_as_it_is() -> None:
    assert decode(saved(noise(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")).size == (60, 40)
    assert decode(saved(noise(), "WEBP", exif=b"Exif\0\0MM")).size == (60, 40)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_and_not_clipped(kind: str) -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)
    image = decode(saved(Image.fromarray(np.tile(ramp, (4, 1))), kind))
    row = np.asarray(image)[0, :, 0].astype(int)
    assert np.abs(row - np.arange(256)).max() <= 1


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 32768, 65535]], np.int32), [0, 128, 255]),
        (np.array([[0, 100, 255]], np.int32), [0, 100, 255]),
        (np.array([[-5, 501_000, 1_000_000]], np.int32), [0, 128, 255]),
        (np.array([[0, 0.5, 1]], np.float32), [0, 128, 255]),
        (np.array([[0, 100, 200]], np.float32), [0, 100, 200]),
        (np.array([[np.nan, np.inf, 1.0]], np.float32), [0, 0, 255]),
    ],
)
def test_deep_grey_spans_the_range_that_holds_it(values: np.ndarray, expected: list[int]) -> None:
    image = decode(saved(Image.fromarray(values), "TIFF"))
    assert np.asarray(image)[0, :, 0].tolist() == expected


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "LAB"])
def test_every_mode_without_alpha_becomes_rgb(mode: str) -> None:
    kind = {"CMYK": "JPEG", "YCbCr": "JPEG", "LAB": "TIFF"}.get(mode, "PNG")
    source = Image.new("RGB", (16, 16), "white")
    image = decode(saved(source.convert(mode) if mode != "LAB" else Image.new("LAB", (16, 16), (255, 128, 128)), kind))
    assert image.mode == "RGB"
    assert min(image.getpixel((8, 8))) > 245


def test_cmyk_keeps_its_colours() -> None:
    red, green, blue = decode(saved(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG")).getpixel((8, 8))
    assert red > 240
    assert max(green, blue) < 15


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "AVIF"])
def test_transparency_is_kept_and_can_lie_on_white(kind: str) -> None:
    source = Image.new("RGBA", (16, 16), (255, 0, 0, 0))
    source.paste((255, 0, 0, 255), (8, 0, 16, 16))
    exact = {"WEBP": {"lossless": True, "exact": True}}.get(kind, {})
    image = decode(saved(source, kind, **exact))
    assert image.mode == "RGBA"
    assert max(image.convert("RGB").getpixel((2, 8))[1:]) < 40
    assert min(on_white(image).getpixel((2, 8))) > 250
    assert on_white(image).getpixel((13, 8))[1] < 40


def test_half_transparent_grey_is_mixed_with_white() -> None:
    image = decode(saved(Image.new("LA", (4, 4), (0, 128)), "PNG"))
    assert image.getpixel((1, 1)) == (0, 0, 0, 128)
    assert on_white(image).getpixel((1, 1)) == (127, 127, 127)


def test_a_transparent_palette_entry_keeps_its_colour() -> None:
    source = Image.new("P", (4, 4), 0)
    source.putpalette([10, 20, 30, 255, 0, 0])
    source.putpixel((1, 1), 1)
    for kind in ("PNG", "GIF"):
        image = decode(saved(source, kind, transparency=0))
        assert (image.getpixel((0, 0)), image.getpixel((1, 1))) == ((10, 20, 30, 0), (255, 0, 0, 255))
        assert (on_white(image).getpixel((0, 0)), on_white(image).getpixel((1, 1))) == (WHITE, RED)


def test_a_transparent_colour_of_an_rgb_png_is_transparent() -> None:
    image = decode(saved(Image.new("RGB", (4, 4), (1, 2, 3)), "PNG", transparency=(1, 2, 3)))
    assert image.getpixel((0, 0)) == (1, 2, 3, 0)


def test_a_thumbnail_lies_on_white() -> None:
    small = thumbnail(saved(Image.new("RGBA", (64, 64), (255, 0, 0, 0)), "PNG"), 16)
    assert min(Image.open(io.BytesIO(small)).getpixel((8, 8))) > 250


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_an_animation_gives_its_first_frame(kind: str) -> None:
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "green", "blue")]
    red, green, blue = decode(saved(frames[0], kind, save_all=True, append_images=frames[1:])).getpixel((16, 16))
    assert red > 230
    assert max(green, blue) < 30


def test_an_mpo_gives_its_first_picture() -> None:
    data = saved(Image.new("RGB", (32, 32), "red"), "MPO", save_all=True, append_images=[Image.new("RGB", (32, 32))])
    assert decode(data).getpixel((16, 16))[0] > 230
    assert extension(data) == "jpg"


def test_a_webp_of_a_thousand_frames_is_refused() -> None:
    frames = [Image.new("L", (2, 2), number % 256) for number in range(1000)]
    data = saved(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True, kmin=1, kmax=1)
    with pytest.raises(ImageRejected, match="frames"):
        decode(data)


@pytest.mark.parametrize("size", [(5100, 5100), (9400, 9400), (13350, 13350)])
def test_a_png_that_claims_too_many_pixels_is_refused_by_its_header(size: tuple[int, int]) -> None:
    with pytest.raises(ImageRejected, match="megapixels"):
        decode(png_header(*size))


@pytest.mark.parametrize("size", [(10, 1001), (60_000, 2)])
def test_a_strip_is_refused_as_resizing_it_would_blow_it_up(size: tuple[int, int]) -> None:
    with pytest.raises(ImageRejected, match="Crop it"):
        decode(saved(Image.new("L", size), "PNG"))


def test_a_webp_canvas_over_the_limit_is_refused_before_the_decoder_sets_it_aside() -> None:
    data = saved(noise(), "WEBP", lossless=True, exif=b"Exif\0\0MM\0*")
    huge = data[:24] + (16382).to_bytes(3, "little") * 2 + data[30:]
    with pytest.raises(ImageRejected, match="megapixels"):
        decode(huge)


def test_a_picture_between_pillows_warning_and_our_limit_is_decoded_without_a_warning() -> None:
    assert decode(saved(Image.new("L", (5000, 4000)), "PNG")).size == (5000, 4000)
    assert decode(saved(Image.new("L", (5000, 4000)), "JPEG")).size == (5000, 4000)


@pytest.mark.parametrize(("size", "expected"), [((8000, 6000), (4000, 3000)), ((12000, 9000), (3000, 2250))])
def test_a_large_phone_jpeg_arrives_at_a_fraction_of_its_size(size: tuple, expected: tuple) -> None:
    exif = Image.Exif()
    exif[image_headers.ORIENTATION] = 6
    data = saved(Image.new("L", size, 200), "JPEG", exif=exif)
    image = decode(data)
    assert image.size == expected[::-1]
    assert abs(image.getpixel((9, 9))[0] - 200) < 3


def test_a_jpeg_beyond_the_largest_is_refused() -> None:
    data = bytearray(saved(Image.new("L", (64, 64)), "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", 13000, 13000)
    with pytest.raises(ImageRejected, match="169 megapixels"):
        decode(bytes(data))


def test_a_large_progressive_jpeg_is_refused_as_it_would_be_held_whole() -> None:
    with pytest.raises(ImageRejected, match="progressive"):
        decode(saved(Image.new("L", (6000, 5000)), "JPEG", progressive=True))
    assert decode(saved(Image.new("L", (600, 500)), "JPEG", progressive=True)).size == (600, 500)


def test_a_jpeg_with_endless_scans_is_refused() -> None:
    data = saved(Image.new("L", (4000, 4000)), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    with pytest.raises(ImageRejected, match="scans"):
        decode(data[:-2] + data[last:-2] * 60 + data[-2:])


def test_more_bytes_than_the_limit_are_refused() -> None:
    with pytest.raises(ImageRejected, match=r"At most 32 MB"):
        decode(b"\xff\xd8\xff" + bytes(MAX_IMAGE_BYTES))
    with pytest.raises(ImageRejected, match="At most 0 MB"):
        decode(saved(noise(), "PNG"), max_bytes=100)


def test_an_empty_file_is_refused() -> None:
    with pytest.raises(ImageRejected, match="empty"):
        decode(b"")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_a_picture_cut_off_is_refused(kind: str, share: float) -> None:
    data = saved(noise(), kind)
    with pytest.raises(ImageRejected) as error:
        decode(data[: int(len(data) * share)])
    assert error.value.what
    assert error.value.next_step


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"8BPS\0\1" + bytes(40), "PSD"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "EPS"),
        (b"\xc5\xd0\xd3\xc6" + bytes(40), "EPS"),
        (b"%PDF-1.7\n", "PDF"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- a -->\n<SVG/>", "SVG"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "video"),
        (b"II+\0\x08\0\0\0" + bytes(20), "BigTIFF"),
        (b"PK\3\4" + bytes(40), "not a picture"),
        (b"<html></html>", "not a picture"),
    ],
)
def test_what_is_no_photograph_is_refused_by_its_content(data: bytes, name: str) -> None:
    for look in (decode, extension):
        with pytest.raises(ImageRejected, match=name):
            look(data)


def heic(size: tuple[int, int] = (64, 32), mode: str = "RGB") -> bytes:
    picture = Image.new(mode, size, "red")
    picture.paste("blue", (0, 0, size[0] // 2, size[1]))
    target = io.BytesIO()
    pillow_heif.from_pillow(picture).save(target)
    return target.getvalue()


def test_a_heic_of_a_phone_is_decoded_and_keeps_its_kind() -> None:
    picture = decode(heic())
    assert (picture.size, picture.mode, extension(heic())) == ((64, 32), "RGB", "heic")
    assert picture.getpixel((2, 2))[2] > 200 > 50 > picture.getpixel((2, 2))[0]
    assert decode(heic(mode="RGBA")).mode == "RGBA"
    assert decode(thumbnail(heic(), 16)).size == (16, 8)


@pytest.mark.parametrize("cut", [40, 200, 400])
def test_a_damaged_heic_is_refused(cut: int) -> None:
    with pytest.raises(ImageRejected, match="HEIC cannot be decoded"):
        decode(heic()[:cut])


def test_a_heic_is_told_the_way_out_where_nothing_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageRejected, match=r"pip install pillow-heif.*Most Compatible"):
        decode(heic_bytes := b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40))
    assert extension(heic_bytes) == "heic"


def test_a_heic_of_too_many_pixels_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_headers, "MAX_PIXELS", 1000)
    with pytest.raises(ImageRejected, match="64 × 32"):
        decode(heic())


def test_a_tiff_whose_values_overlap_is_refused_before_pillow_copies_them() -> None:
    data = tiff([(40000 + number, 1, 60_000, 8) for number in range(4000)], bytes(60_000))
    with pytest.raises(ImageRejected, match="directory"):
        decode(data)


def test_a_tiff_directory_that_points_at_itself_ends() -> None:
    with pytest.raises(ImageRejected):
        decode(tiff([(34665, 4, 1, 8), (34853, 4, 1, 8)] * 200))


def test_pillow_is_not_shown_the_exif_of_a_jpeg() -> None:
    overlapping = tiff([(40000 + number, 1, 50_000, 8) for number in range(1000)], bytes(50_000))
    assert decode(saved(noise(), "JPEG", exif=b"Exif\0\0" + overlapping)).size == (60, 40)


def test_a_thumbnail_is_a_jpeg_within_its_side() -> None:
    for picture in (
        saved(noise(300, 200), "PNG"),
        saved(noise(3000, 2000), "JPEG"),
        noise(300, 200),
        Image.new("L", (300, 200)),
    ):
        image = Image.open(io.BytesIO(thumbnail(picture, 48)))
        assert (image.format, image.size) == ("JPEG", (48, 32))


def test_a_thumbnail_leaves_the_picture_it_was_given_alone() -> None:
    picture = noise(300, 200)
    thumbnail(picture, 48)
    assert picture.size == (300, 200)


def test_folders_are_searched_for_images_sorted_and_without_hidden_ones(tmp_path: Path) -> None:
    names = ["b/2.JPG", "b/1.png", "a.WebP", "z.heic", "notes.txt", ".hidden.png", ".git/x.png", "b/.thumbs/y.jpg"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in find_images([tmp_path])]
    assert found == ["a.WebP", "b/1.png", "b/2.JPG", "z.heic"]


def test_a_file_that_is_named_counts_whatever_its_name_is_and_once(tmp_path: Path) -> None:
    (tmp_path / "picture").touch()
    (tmp_path / "a.png").touch()
    found = find_images([str(tmp_path / "picture"), tmp_path, tmp_path / "a.png"])
    assert found == [tmp_path / "picture", tmp_path / "a.png"]


def test_a_path_that_is_missing_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is not there"):
        find_images([tmp_path / "nowhere"])


@given(st.binary(max_size=300))
@example(b"GIF87a" + bytes(7) + b",\0\0\0\0\1\0\1\0\0\0\1\0")
@settings(max_examples=200, deadline=None)
def test_no_bytes_raise_anything_but_image_rejected(data: bytes) -> None:
    with contextlib.suppress(ImageRejected):
        assert decode(data).mode in ("RGB", "RGBA")  # a few bytes can be a picture


@given(
    st.sampled_from([prefix for prefix, kind in image_headers.PREFIXES.items() if kind in images.OPENERS]), st.binary()
)
@settings(max_examples=200, deadline=None)
def test_no_bytes_behind_a_true_start_raise_anything_but_image_rejected(prefix: bytes, data: bytes) -> None:
    with contextlib.suppress(ImageRejected):
        decode(prefix + data)


def test_gradio_finds_pillows_limit_set() -> None:
    assert 2 * Image.MAX_IMAGE_PIXELS == image_headers.MAX_PIXELS


def test_the_examples_are_decodable_and_listed_with_their_licences() -> None:
    folder = Path(__file__).parent.parent / "assets" / "examples"
    licences = (folder / "LICENSES.md").read_text(encoding="utf-8")
    files = find_images([folder])
    assert len(files) >= 8
    for path in files:
        assert f"| `{path.name}` |" in licences
        assert path.stat().st_size <= 300_000
        assert max(decode(path.read_bytes()).size) <= 1024
