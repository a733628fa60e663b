"""The image of the page: hands its handler the file's bytes as they are, and decodes nothing.

Every image comes through `read_upload`: a file that this server was sent, or a data URL; never another path and
never an address that the server would have to fetch.
"""

from __future__ import annotations

import binascii
import secrets
import time
from collections.abc import Mapping
from pathlib import Path

import gradio as gr
from gradio.data_classes import ImageData
from gradio.processing_utils import hash_bytes
from gradio.utils import get_upload_folder, is_in_or_equal

from demo.errors import ImageRejected

FRESH_SECONDS = 3600
"""Within which a file is left as it is, so that what a browser has of it stays good."""


class ImageInput(gr.Image):
    """gr.Image whose value is the bytes of a file: in from the page, and out to it.

    A handler returns (bytes, extension), or None for no image.
    """

    is_template = True  # drawn by gr.Image's own script

    def preprocess(self, payload: ImageData | None) -> bytes | None:
        """The bytes; b"" where the page named none that it may name."""
        if payload is None:
            return None
        try:
            return read_upload(payload.model_dump())
        except ImageRejected:
            return b""

    def postprocess(self, value: tuple[bytes, str] | None) -> ImageData | None:
        if value is None:
            return None
        path = cached(*value)
        return ImageData(path=str(path), orig_name=path.name)


def cached(data: bytes, extension: str) -> Path:
    """The file from which gradio serves an image: written whole and once, since a browser may be fetching it ahead."""
    path = Path(get_upload_folder(), hash_bytes(data), f"image.{extension}")
    try:
        if time.time() - path.stat().st_mtime > FRESH_SECONDS:
            path.touch()  # gradio deletes what is old
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{secrets.token_hex(8)}")
        part.write_bytes(data)
        part.replace(path)
    return path.resolve()


def read_upload(file: object) -> bytes:
    """The bytes of a gradio file (`path` or a data `url`). Raises ImageRejected, also for what is no such thing."""
    url, path = (file.get("url"), file.get("path")) if isinstance(file, Mapping) else (None, None)
    try:
        if isinstance(url, str) and url.startswith("data:"):
            encoded = memoryview(url.encode("ascii"))  # a slice of it copies nothing: it may be 27 MB
            return binascii.a2b_base64(encoded[url.find(",") + 1 or len(url) :], strict_mode=True)
        if isinstance(path, str) and is_in_or_equal(path, get_upload_folder()):
            return Path(path).read_bytes()
    except (binascii.Error, OSError, ValueError) as error:
        raise ImageRejected("The image did not arrive.", next_step="Send it again.") from error
    raise ImageRejected("The image did not arrive.", "It is neither an upload nor a data URL.", "Upload it first.")
