"""What lies on the desk: the images that are open, and what one browser tab has decided without saving.

Images are kept by the sha256 of their bytes, for all visitors together and up to a number of bytes; what a person
decided lives in a `Desk` of their own tab. Knows nothing of models and components.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from demo.rows import Correction
from demo.settings import MAX_DRAFTS, MAX_OPEN_BYTES, TAGGING_AT_ONCE
from demo.walk import Walk


@dataclass(frozen=True)
class OpenImage:
    """Bytes as they were uploaded and the extension of what they are; width and height in pixels, turned upright."""

    data: bytes
    extension: str
    size: tuple[int, int]
    name: str = ""


class OpenImages:
    """The images opened last, by sha256; those not used for longest go when `max_bytes` are exceeded."""

    def __init__(self, max_bytes: int = MAX_OPEN_BYTES) -> None:
        self.max_bytes = max_bytes
        self._images: OrderedDict[str, OpenImage] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, image: OpenImage) -> str:
        """Keep an image and give its sha256."""
        digest = hashlib.sha256(image.data).hexdigest()
        with self._lock:
            self._images[digest] = image
            self._images.move_to_end(digest)
            held = sum(len(kept.data) for kept in self._images.values())
            while held > self.max_bytes and len(self._images) > 1:
                held -= len(self._images.popitem(last=False)[1].data)
        return digest

    def get(self, digest: str) -> OpenImage | None:
        with self._lock:
            if digest in self._images:
                self._images.move_to_end(digest)
            return self._images.get(digest)


@dataclass(frozen=True)
class Draft:
    """Decisions on one image, and where the slider stood over the scores of a model, by its identity."""

    confirmed: tuple[str, ...] = ()
    rejected: tuple[str, ...] = ()
    slider: float | None = None
    model: str = ""

    @classmethod
    def of_row(cls, row: Correction) -> Draft:
        return cls(row.labels, row.rejected, row.threshold, row.model)

    def says_as(self, other: Draft) -> bool:
        return set(self.confirmed) == set(other.confirmed) and set(self.rejected) == set(other.rejected)

    def under(self, model: str) -> Draft:
        """The decisions, with the slider where this model recommends it if it stood over the scores of another one."""
        return self if model == self.model else replace(self, slider=None, model=model)


@dataclass
class Desk:
    """One browser tab.

    own: gives the ref of the server's own model, which may change. chosen: the ref that this visitor chose, None for
    the server's own. before: the ref of the model that the choice replaced. wanted: the ref that is being loaded for
    this tab, or empty. image: sha256 of the open image, or empty. saved_at: of its row when it was opened, empty
    without one. annotator: whose row that is. settled: of the images opened last, by sha256, what needs no keeping:
    as it is saved, or nothing. walk: the way through the photos that are worked through; None before
    anything was opened.
    """

    own: Callable[[], str]
    chosen: str | None = None
    before: str | None = None
    wanted: str = ""
    image: str = ""
    saved_at: str = ""
    annotator: str = ""
    walk: Walk | None = None
    settled: dict[str, Draft] = field(default_factory=dict)
    drafts: dict[str, Draft] = field(default_factory=dict)

    @property
    def model(self) -> str:
        """The ref of the model in use."""
        return self.chosen or self.own()

    def choose(self, model: str) -> None:
        """Tag with another model; the one before can be gone back to. Whatever was being loaded is not wanted.

        Who chooses the server's own follows it when it changes.
        """
        self.wanted, before = "", self.model
        self.chosen = None if model == self.own() else model
        if model != before:
            self.before = before

    def open(self, digest: str, settled: Draft) -> None:
        """The page shows an image from now on."""
        self.image = digest
        self._settled(digest, settled)

    def is_settled(self, digest: str, draft: Draft) -> bool:
        """Whether decisions on an image that was opened lately need no keeping."""
        return digest in self.settled and draft.says_as(self.settled[digest])

    def leave(self, digest: str, draft: Draft) -> None:
        """Keep what was decided on an image and not saved, for when it is opened again."""
        self.drafts.pop(digest, None)
        if not self.is_settled(digest, draft):
            self.drafts[digest] = draft
            while len(self.drafts) > MAX_DRAFTS:
                self.drafts.pop(next(iter(self.drafts)))

    def save(self, digest: str, draft: Draft) -> None:
        """Decisions were saved, of an image that may have been left meanwhile with others on it."""
        self._settled(digest, draft)
        if digest == self.image or (digest in self.drafts and draft.says_as(self.drafts[digest])):
            self.drafts.pop(digest, None)

    def _settled(self, digest: str, draft: Draft) -> None:
        self.settled.pop(digest, None)
        self.settled[digest] = draft
        while len(self.settled) > 1 + TAGGING_AT_ONCE:  # the open one, and those that were left a moment ago
            self.settled.pop(next(iter(self.settled)))
