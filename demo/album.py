"""The photos that are worked through: a folder, uploads, or what a zip holds; with hashes, thumbnails and scores.

A photo is read whenever it is needed and none is kept; what was seen of it is (`Look`). Its scores by one model are in
a `Sheet`, which is filled in the background and outside of memory. Who decided what on a photo is not known here.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from demo import logs
from demo.batches import scored
from demo.errors import BadInput, DemoError, ImageRejected
from demo.images import decode, extension, thumbnail
from demo.photos import Photo, photo_of, photos_of
from demo.settings import MAX_IMAGE_BYTES, MAX_SHEETS, MAX_THUMBNAIL_BYTES

if TYPE_CHECKING:
    import torch

    from demo.tagger import Tagger

THUMBNAIL_PIXELS = 192
ROWS_A_PART = 256
BATCH_SIZES = {"cuda": 32, "mps": 16, "cpu": 8}
"""On a CPU small ones, since who opens an image waits for the batch that is being tagged."""


@dataclass(frozen=True)
class Look:
    """What reading a photo showed: sha256 of its bytes, their kind, width and height in pixels turned upright."""

    digest: str
    extension: str
    size: tuple[int, int]


class Album:
    """Photos by their place, from 0; it only grows. Any number of threads may use it.

    token: names it in addresses and cannot be guessed. folder: of uploads, deleted by `close`; None where the photos
    lie elsewhere. max_photos, max_bytes: of uploads, all together; who
    uploads claims the bytes first.
    """

    def __init__(self, paths: Iterable[Path] = (), *, max_photos: int = 0, max_bytes: int = 0) -> None:
        self.token = secrets.token_urlsafe(16)
        self.photos: list[Photo] = []
        self.looks: list[Look | None] = []
        self._digests: dict[int, str] = {}  # of photos that were read and not looked at
        self.problems: dict[int, str] = {}
        self.max_photos, self.max_bytes = max_photos, max_bytes
        self.folder = Path(tempfile.mkdtemp(prefix="tagloop-")) if max_photos else None
        self._bytes = 0
        self._lock = threading.Lock()
        self._thumbnails: OrderedDict[int, bytes] = OrderedDict()
        self._thumbnail_bytes = 0
        self._sheets: OrderedDict[str, Sheet] = OrderedDict()
        self._add([photo_of(path) for path in paths])

    def __len__(self) -> int:
        return len(self.photos)

    def claim(self, count: int) -> bool:
        """Take room for bytes that are being uploaded; whether there was any left."""
        with self._lock:
            self._bytes += count
            return self._bytes <= self.max_bytes

    def release(self, count: int) -> None:
        """Give room back: what was uploaded is not kept."""
        with self._lock:
            self._bytes -= count

    def take(self, path: Path, name: str) -> int:
        """Add an uploaded file of `folder`: a photo, or a zip's photos; gives how many.

        Raises BadInput for what is no photo and holds none, and for more than there is room for; the file is deleted.
        """
        try:
            photos = photos_of(path, name)
            with self._lock:
                if len(self.photos) + len(photos) > self.max_photos:
                    raise BadInput(
                        f"{photos[0].name if len(photos) == 1 else name} was left out.",
                        f"{len(self):,} photos are here, and at most {self.max_photos:,} are worked through at once.",
                        "Finish these first.",
                    )
                self._add(photos)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return len(photos)

    def read(self, place: int) -> bytes:
        """A photo's bytes. Raises ImageRejected or OSError."""
        return self.photos[place].read(MAX_IMAGE_BYTES)

    def digest(self, place: int, read: bool = False) -> str | None:
        """Sha256 of a photo's bytes as they were read last; None before. read: then now, which raises as `read`."""
        look = self.looks[place]
        if look is None and read and place not in self._digests:
            self._digests[place] = hashlib.sha256(self.read(place)).hexdigest()
        return look.digest if look else self._digests.get(place)

    def seen(self, place: int, look: Look) -> None:
        """Note what reading a photo showed; a file that was replaced meanwhile has no scores and no thumbnail any more.

        What was wrong with it before is over: it may have been seen while it was being copied.
        """
        before, self.looks[place] = self.looks[place], look
        self.problems.pop(place, None)
        if before is None or before.digest == look.digest:
            return
        with self._lock:
            self._thumbnail_bytes -= len(self._thumbnails.pop(place, b""))
        for sheet in list(self._sheets.values()):
            sheet.forget(place)

    def thumbnail(self, place: int) -> bytes:
        """A JPEG of at most THUMBNAIL_PIXELS a side. Raises ImageRejected or OSError."""
        with self._lock:
            if place in self._thumbnails:
                self._thumbnails.move_to_end(place)
                return self._thumbnails[place]
        return self._keep_thumbnail(place, thumbnail(self.read(place), THUMBNAIL_PIXELS))

    def sheet(self, tagger: Tagger) -> Sheet:
        """The scores by a model; those of the model that was not asked for longest are forgotten."""
        checkpoint = tagger.checkpoint
        with self._lock:
            sheet = self._sheets.setdefault(checkpoint.identity, Sheet(self, len(checkpoint.labels)))
            self._sheets.move_to_end(checkpoint.identity)
            gone = self._sheets.popitem(last=False)[1] if len(self._sheets) > MAX_SHEETS else None
        if gone:
            gone.cancel()
        return sheet

    def sheet_of(self, identity: str | None) -> Sheet | None:
        """The scores by the model of an identity, if it has tagged any of these photos."""
        return self._sheets.get(identity)

    def close(self) -> None:
        """Stop whatever is going on and delete what was uploaded."""
        with self._lock:
            sheets, self._sheets = list(self._sheets.values()), OrderedDict()
        for sheet in sheets:
            sheet.cancel()
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def prepared(self, place: int, preprocess: Callable) -> torch.Tensor:
        """A photo's pixels (3, H, W), with a look at it and its thumbnail on the way. Raises as `read`."""
        try:
            image = self._decoded(place)
            pixels = preprocess(image)  # a model may find its shape too much
        except (ImageRejected, OSError) as error:
            self.problems[place] = str(error) if isinstance(error, ImageRejected) else f"{error.strerror}."
            raise
        self._keep_thumbnail(place, thumbnail(image, THUMBNAIL_PIXELS))
        return pixels

    def _decoded(self, place: int):  # an Image.Image
        data = self.read(place)
        image = decode(data)
        self.seen(place, Look(hashlib.sha256(data).hexdigest(), extension(data), image.size))
        return image

    def _keep_thumbnail(self, place: int, data: bytes) -> bytes:
        with self._lock:
            self._thumbnail_bytes += len(data) - len(self._thumbnails.pop(place, b""))
            self._thumbnails[place] = data
            while self._thumbnail_bytes > MAX_THUMBNAIL_BYTES:
                self._thumbnail_bytes -= len(self._thumbnails.popitem(last=False)[1])
        return data

    def _add(self, photos: Sequence[Photo]) -> None:
        self.looks += [None] * len(photos)  # before the photos, by which it is counted how many there are
        self.photos += photos


class Sheet:
    """An album's scores by one model (L labels). Any number of threads may use it.

    error: why the model could not go on, or ''. Scores lie in files without a name, so that 10,000 labels of 10,000
    photos take no memory; the model itself is held only while it tags.
    """

    def __init__(self, album: Album, labels: int) -> None:
        self.album, self.labels = album, labels
        self.error = ""
        self._parts: list[np.ndarray] = []
        self._is_known: set[int] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_wanted = False
        self._started = (0.0, 0)

    def of(self, place: int) -> np.ndarray | None:
        """Scores (L,) float32 of one photo; None before it is tagged."""
        return self._row(place).copy() if place in self._is_known else None

    def put(self, place: int, scores: np.ndarray) -> None:
        """Keep scores (L,) of a photo."""
        self._row(place)[:] = scores
        self._is_known.add(place)

    def forget(self, place: int) -> None:
        self._is_known.discard(place)
        self._row(place)[:] = np.nan

    def scores(self, columns: int | slice = slice(None)) -> np.ndarray:
        """Scores (N, L), or of one label (N,), float32, NaN for photos that are not tagged yet."""
        photos = len(self.album)
        if not photos:
            return np.zeros((0, self.labels), np.float32)[:, columns]
        self._part_of(photos - 1)
        return np.concatenate([part[:, columns] for part in self._parts])[:photos]

    @property
    def done(self) -> int:
        """Photos that are tagged, or cannot be."""
        return len(self._is_known | self.album.problems.keys())

    @property
    def is_running(self) -> bool:
        return self._thread is not None

    @property
    def eta_seconds(self) -> float | None:
        """What the rest will take at the rate so far; None before that is known."""
        since, had = self._started
        made = self.done - had
        return (time.monotonic() - since) / made * (len(self.album) - self.done) if made > 0 else None

    def start(self, tagger: Tagger) -> None:
        """Tag what is not tagged yet, in the background; where it is under way, what came meanwhile is tagged too."""
        with self._lock:
            self._is_wanted, self.error = True, ""
            if self._thread is None and self.done < len(self.album):
                self._started = (time.monotonic(), self.done)
                asker = copy_context()  # a GPU that is lent by the call is lent to who brought the photos
                self._thread = threading.Thread(target=asker.run, args=(self._run, tagger), name="album", daemon=True)
                self._thread.start()

    def cancel(self) -> None:
        """Stop after the batch that is under way; what is tagged stays."""
        self._is_wanted = False

    def _run(self, tagger: Tagger) -> None:
        workers = 2 if tagger.device == "cpu" else min(8, os.cpu_count() or 2)
        try:
            pixels_of = partial(self.album.prepared, preprocess=tagger.checkpoint.preprocess)
            batch_size = BATCH_SIZES[tagger.device]
            while True:
                with closing(scored(tagger, self._todo(), pixels_of, batch_size, workers)) as batches:
                    for places, scores, _ in batches:
                        for place, own in zip(places, scores, strict=True):
                            self.put(place, own)
                        if not self._is_wanted:
                            break
                with self._lock:
                    if not self._is_wanted or self.done >= len(self.album):
                        self._thread = None
                        since, had = self._started
                        logs.event("photos_tagged", count=self.done - had, seconds=time.monotonic() - since)
                        return
        except Exception as error:
            logs.event("error", "error", exception=type(error).__name__)
            self.error = str(error) if isinstance(error, DemoError) else f"{type(error).__name__}: {error}"
            self._thread = None

    def _todo(self) -> Iterator[int]:
        place = 0
        while self._is_wanted and place < len(self.album):
            if place not in self._is_known and place not in self.album.problems:
                yield place
            place += 1

    def _row(self, place: int) -> np.ndarray:
        return self._part_of(place)[place % ROWS_A_PART]

    def _part_of(self, place: int) -> np.ndarray:
        with self._lock:
            while len(self._parts) <= place // ROWS_A_PART:
                shape = (ROWS_A_PART, self.labels)
                with tempfile.TemporaryFile() as file:
                    part = np.memmap(file, np.float32, "w+", shape=shape)
                part[:] = np.nan
                self._parts.append(part)
            return self._parts[place // ROWS_A_PART]
