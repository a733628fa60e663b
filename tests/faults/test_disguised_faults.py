"""Files of other formats that are called .png: refused by what they hold, with a word on what that is.

The check is seen failing on an implementation that trusts the name and lets Pillow open whatever it can.
"""

from __future__ import annotations

import gzip
import io
import re
import struct
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from PIL import Image

from demo import tag
from demo.albums import Albums
from demo.errors import EXIT_SKIPPED, ImageRejected
from demo.images import SUFFIXES, decode, extension
from tests.faults.table import demand, planted

Decoder = Callable[[str, bytes], Image.Image]

SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/></svg>'
WHY_AND_NEXT = r" By its content it is none of JPEG, .+\. Export it as JPEG or PNG\."
READ = {"JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"}
"""Pillow's names of the formats that are read here; an MPO is a JPEG with more behind it."""


def psd() -> bytes:
    """A whole PSD of 8 × 8 grey pixels."""
    header = b"8BPS" + struct.pack(">H6xHIIHH", 1, 1, 8, 8, 8, 1)
    return header + struct.pack(">III", 0, 0, 0) + struct.pack(">H", 0) + bytes(range(64))


@cache
def written_by_pillow() -> dict[str, bytes]:
    """A picture in each format that Pillow writes, by Pillow's name of it."""
    Image.init()
    written = {}
    for kind in sorted(Image.SAVE):
        for mode in ("RGB", "L", "1", "P"):
            target = io.BytesIO()
            try:
                Image.new(mode, (16, 16), 1).save(target, kind)
            except Exception:  # this mode, or a format that needs a plugin of its own
                continue
            written[kind] = target.getvalue()
            break
    return written


def zipped() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("picture.png", b"none")
    return target.getvalue()


@cache
def named_ones() -> dict[str, bytes]:
    """The formats that people have under the wrong name; the message says which it is."""
    written = written_by_pillow()
    dos_eps = b"\xc5\xd0\xd3\xc6" + struct.pack("<II", 30, len(written["EPS"])) + bytes(18) + written["EPS"]
    return {
        "PSD": psd(),
        "PSD of over 30,000 pixels": psd().replace(b"8BPS\0\1", b"8BPS\0\2"),
        "EPS": written["EPS"],
        "EPS with a preview": dos_eps,
        "PDF": written["PDF"],
        "SVG": SVG,
        "SVG after a prologue": b'<?xml version="1.0"?>\n<!-- drawn by hand -->\n' + SVG,
        "SVG with a byte order mark": b"\xef\xbb\xbf" + SVG.upper(),
        "BigTIFF": b"II+\0" + bytes(60),
        "video": struct.pack(">I", 24) + b"ftypisom" + bytes(60),
    }


def nameless_ones() -> dict[str, bytes]:
    """Everything else that Pillow could open, and what it could not."""
    written = {kind: data for kind, data in written_by_pillow().items() if kind not in READ | {"EPS", "PDF"}}
    return written | {
        "SVG, compressed": gzip.compress(SVG),
        "SVG in UTF-16": SVG.decode().encode("utf-16"),
        "zip": zipped(),
        "page": b"<!doctype html><title>404</title>",
        "program": b"\x7fELF" + bytes(60),
        "script": b"#!/bin/sh\necho hello\n",
        "text": b"a photo of a cat",
        "zeros": bytes(1000),
    }


def accepted(decoder: Decoder, files: dict[str, bytes]) -> dict[str, str]:
    """What was not refused with a clear message, and what happened instead."""
    found = {}
    for name, data in files.items():
        try:
            found[name] = f"opened as {decoder(f'{name}.png', data).mode}"
        except ImageRejected as error:
            kind = name.split()[0]
            said = f"This is a {kind} file." if name in named_ones() else "This is not a picture."
            if not re.fullmatch(
                re.escape(said) + r" By its content .+ JPEG, .+ Export it as JPEG or PNG\.", str(error)
            ):
                found[name] = f"said {error}"
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}"
    return found


def ours(name: str, data: bytes) -> Image.Image:
    return decode(data)


def trusting(name: str, data: bytes) -> Image.Image:
    """The planted one."""
    if Path(name).suffix not in SUFFIXES:
        raise ImageRejected(
            "This is not a picture.", "By its content it is no JPEG, really.", "Export it as JPEG or PNG."
        )
    return Image.open(io.BytesIO(data)).convert("RGB")


@demand("disguised formats")
def test_other_formats_are_refused_whatever_they_are_called(figure: Callable[[str], None]) -> None:
    files = named_ones() | nameless_ones()
    wrong = accepted(ours, files)
    figure(f"{len(files)} files of other formats named .png: {len(wrong)} opened or refused without saying why")
    assert wrong == {}
    assert len(files) > 30


@planted("disguised formats")
def test_the_check_of_formats_catches_trusting_the_name() -> None:
    wrong = accepted(trusting, named_ones() | nameless_ones())
    assert wrong["PSD"] == "opened as RGB"
    assert {"EPS", "PDF", "SVG", "PPM", "TGA", "ICO"} <= set(wrong)


def test_a_picture_under_the_name_of_another_format_is_what_it_holds() -> None:
    for kind, data in written_by_pillow().items():
        if kind in READ:
            assert decode(data).size == (16, 16), kind
            assert f".{extension(data)}" in SUFFIXES


@demand("disguised formats")
def test_the_command_names_and_skips_them_and_an_album_shows_why(
    tmp_path: Path, tiny_checkpoint: Path, make_image: Callable[..., bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "good.png").write_bytes(make_image(1))
    for name, data in named_ones().items():
        (folder / f"{name}.png").write_bytes(data)
    table = tmp_path / "tags.csv"
    assert tag.main([str(folder), "--model", str(tiny_checkpoint), "--out", str(table)]) == EXIT_SKIPPED
    told = capsys.readouterr().err
    for name in named_ones():
        assert re.search(rf"skipped \S*{re.escape(str(folder / name))}\.png: This is a {name.split()[0]} file\.", told)
    assert len(table.read_text().splitlines()) == 2

    albums = Albums(1, 100, 2**30)
    album = albums.new()
    for path in sorted(folder.glob("*.png")):
        copy = album.folder / path.name
        copy.write_bytes(path.read_bytes())
        album.take(copy, path.name)
    refused = 0
    for place, photo in enumerate(album.photos):
        if photo.name != "good.png":
            with pytest.raises(ImageRejected, match=r"This is a .+ file\."):
                album.thumbnail(place)
            refused += 1
    albums.close_all()
    assert refused == len(named_ones())
