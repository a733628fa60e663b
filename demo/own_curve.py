"""Precision, recall and F1 over the threshold, on what was corrected here, of the model in use.

Worked out behind and never waited for: `look` gives what is known at once. Images that were just tagged need no
second look; the others are scored one at a time, after a while without anybody tagging. Counted are images
reviewed in full alone: where labels are merely listed, hardly any absence is known but of what the model had active,
and thresholds drawn from that would be far too low. Nothing is held out: the model may have learned from these images.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath
from weakref import WeakKeyDictionary, WeakValueDictionary

import numpy as np

from demo.corrections import Corrections
from demo.errors import DemoError
from demo.images import decode
from demo.settings import MAX_CURVE_BYTES, MAX_CURVE_IMAGES
from demo.tables import Merged, Row, merge_rows, targets
from demo.tagger import Tagger
from demo.thresholds import Curve, sweep

FROM_IMAGES = 30
"""Images under which there is no curve: it would jump with each of them."""

REST_SECONDS = 2.0
"""After anybody tagged an image, the model is left alone for so long."""


@dataclass(frozen=True)
class OwnCurve:
    """Micro-averaged over all labels of a number of corrected images."""

    images: int
    curve: Curve


class OwnCurves:
    """The curves on one folder's corrections, one a model; any number of threads may look at them."""

    def __init__(self, corrections: Corrections, rest_seconds: float = REST_SECONDS) -> None:
        self.corrections, self.rest_seconds = corrections, rest_seconds
        self._lock = threading.Lock()
        self._scores: OrderedDict[tuple[str, str], np.ndarray] = OrderedDict()  # float16, by model and image
        self._bytes = 0
        self._tagged_at = float("-inf")
        self._in_use: WeakValueDictionary[str, Tagger] = WeakValueDictionary()
        self._known: WeakKeyDictionary[Tagger, tuple[object, OwnCurve | None]] = WeakKeyDictionary()
        self._waiting: list[Tagger] = []
        self._worker: threading.Thread | None = None

    def look(self, tagger: Tagger, digest: str, scores: np.ndarray) -> OwnCurve | None:
        """The curve of a model that just tagged an image; None while there is none or it is not known yet.

        digest, scores: the image's sha256 and its scores (L,).
        """
        self._tagged_at = time.monotonic()
        self._keep(tagger.checkpoint.identity, digest, scores)
        with self._lock:
            self._in_use[tagger.checkpoint.identity] = tagger
            _, curve = self._known.get(tagger, (None, None))
        self._bring_up_to_date(tagger)
        return curve

    def corrected(self, identity: str) -> None:
        """A correction was saved: the curve of the model that it was made with is worked out anew."""
        with self._lock:
            tagger = self._in_use.get(identity)
        if tagger is not None:
            self._bring_up_to_date(tagger)

    def wait(self) -> None:
        """Until nothing is left to work out."""
        while (worker := self._worker) and worker.is_alive():
            worker.join()

    def _bring_up_to_date(self, tagger: Tagger) -> None:
        stamp = self._stamp()
        with self._lock:
            known, _ = self._known.get(tagger, (None, None))
            if stamp is None or stamp == known or tagger in self._waiting:
                return
            self._waiting.append(tagger)
            if self._worker is None or not self._worker.is_alive():
                self._worker = threading.Thread(target=self._work, name="own curve", daemon=True)
                self._worker.start()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._worker = None
                    return
                tagger = self._waiting.pop(0)
            stamp, curve = self._stamp(), None
            with suppress(DemoError, OSError, RuntimeError, MemoryError):  # then there is none, and tagging goes on
                curve = self._curve(tagger)
            with self._lock:
                self._known[tagger] = (stamp, curve)

    def _curve(self, tagger: Tagger) -> OwnCurve | None:
        names = tagger.checkpoint.labels.names
        room = MAX_CURVE_BYTES // (4 * max(len(names), 1))  # half of it, so that it is kept until the next time
        merged = reviewed_in_full(self.corrections, min(MAX_CURVE_IMAGES, room))
        known = targets(merged, names, names, self.corrections.folder)
        if (known >= 0).any(1).sum() < FROM_IMAGES:
            return None
        scored = [self._scored(tagger, image) for image in merged]
        used = [row for row, own in enumerate(scored) if own is not None and (known[row] >= 0).any()]
        if len(used) < FROM_IMAGES or not (known[used] == 1).any():
            return None
        return OwnCurve(len(used), sweep(np.stack([scored[row] for row in used]), known[used]))

    def _scored(self, tagger: Tagger, image: Merged) -> np.ndarray | None:
        """Scores (L,) of a corrected image, kept or computed; None if it cannot be read any more."""
        identity, digest = tagger.checkpoint.identity, PurePosixPath(image.file_name).stem
        with self._lock:
            if (identity, digest) in self._scores:
                self._scores.move_to_end((identity, digest))
                return self._scores[identity, digest]
        if tagger.lent:  # nobody asked for this, and a GPU that is lent by the call is somebody's quota
            return None
        while (left := self._tagged_at + self.rest_seconds - time.monotonic()) > 0:
            time.sleep(left)
        try:
            scores = tagger.scores([decode(image.path.read_bytes())])[0]
        except (DemoError, OSError):
            return None
        return self._keep(identity, digest, scores)

    def _keep(self, identity: str, digest: str, scores: np.ndarray) -> np.ndarray:
        half = np.asarray(scores, np.float16)
        with self._lock:
            before = self._scores.pop((identity, digest), None)
            self._scores[identity, digest] = half
            self._bytes += half.nbytes - (0 if before is None else before.nbytes)
            while self._bytes > MAX_CURVE_BYTES:
                self._bytes -= self._scores.popitem(last=False)[1].nbytes
        return half

    def _stamp(self) -> object:
        try:
            now = self.corrections.csv_path.stat()
        except OSError:
            return None
        return now.st_ino, now.st_size, now.st_mtime_ns


def reviewed_in_full(corrections: Corrections, most: int) -> list[Merged]:
    """The latest images that an annotator reviewed in full, at most so many, each with all that was said of it.

    Raises CorrectionsError where a row is damaged.
    """
    lines = corrections.lines()
    images = [line.partition(b".")[0] for line in lines]
    wanted: set[bytes] = set()
    for at in reversed(range(len(lines))):
        if len(wanted) == most:
            break
        if b",all," in lines[at] and corrections.row(lines[at], at + 2).reviewed == "all":
            wanted.add(images[at])
    rows = []
    for at, image in enumerate(images):
        if image in wanted:
            row = corrections.row(lines[at], at + 2)
            rows.append(
                Row(
                    line=at + 2,
                    path=corrections.folder / row.file_name,
                    file_name=row.file_name,
                    labels=row.labels,
                    rejected=row.rejected,
                    reviewed=row.reviewed,
                    is_valid=row.is_valid,
                    model=row.model,
                    annotator=row.annotator,
                )
            )
    return merge_rows(rows)
