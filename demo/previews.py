"""What a browser can show of an image: its own bytes, or a JPEG that is made once and kept while it is asked for."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict

from demo.images import thumbnail
from demo.settings import MAX_PREVIEW_BYTES

SHOWN_BY_BROWSERS = ("jpg", "png", "webp", "gif", "bmp", "avif")
PREVIEW_PIXELS = 1600


class Previews:
    """JPEGs of at most PREVIEW_PIXELS a side, by the sha256 of the image. Any number of threads may use it."""

    def __init__(self, max_bytes: int = MAX_PREVIEW_BYTES) -> None:
        self.max_bytes = max_bytes
        self._lock = threading.Lock()
        self._made: OrderedDict[str, bytes] = OrderedDict()

    def of(self, data: bytes, extension: str) -> tuple[bytes, str]:
        """A picture and its extension. Raises ImageRejected."""
        if extension in SHOWN_BY_BROWSERS:
            return data, extension
        digest = hashlib.sha256(data).hexdigest()
        with self._lock:
            made = self._made.get(digest)
        made = made or thumbnail(data, PREVIEW_PIXELS)
        with self._lock:
            self._made[digest] = made
            self._made.move_to_end(digest)
            while sum(map(len, self._made.values())) > self.max_bytes:
                self._made.popitem(last=False)
        return made, "jpg"
