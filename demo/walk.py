"""One person's way through an album: the order, the open photo, and which photos they passed by.

Places count the album's photos as they were given, from 0. What is saved and what is only decided is told from outside.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from demo.album import Album

UNTOUCHED, DONE, SKIPPED, EDITED, FAILED = "tdsef"


@dataclass
class Walk:
    """by: the name of the order. place: of the open photo, None for an image from elsewhere. skipped: gone on from.

    doubted: done, and to be looked at once more; by place when they were saved. is_begun: whether a photo was opened.
    ranked: what the ranks of the order are of, a model by its identity and so many photos; None where it has none.
    since: when that order was chosen, as rows have it. is_fresh: nothing was opened since it was sorted by rank.
    """

    album: Album
    by: str = "given"
    place: int | None = None
    skipped: set[int] = field(default_factory=set)
    doubted: dict[int, str] = field(default_factory=dict)
    is_begun: bool = False
    ranked: tuple[str, int] | None = None
    since: str = ""
    is_fresh: bool = False
    _order: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def order(self) -> np.ndarray:
        """All places (N,), int64; photos that came after the last sort stand at the end."""
        known, photos = len(self._order), len(self.album)
        if known < photos:
            self._order = np.concatenate([self._order, np.arange(known, photos)])
        return self._order

    def sort(
        self,
        by: str,
        order: np.ndarray,
        doubted: Mapping[int, str] | None = None,
        ranked: tuple[str, int] | None = None,
    ) -> None:
        """Go by another order: places (N,). One by rank is gone through from its front, whatever is open."""
        self.by, self._order = by, np.asarray(order, np.int64)
        self.ranked, self.is_fresh = ranked, ranked is not None
        self.doubted = {place: saved_at for place, saved_at in (doubted or {}).items() if place != self.place}
        self.skipped -= self.doubted.keys()

    def enter(self, place: int | None) -> None:
        """A photo is opened, or an image from elsewhere."""
        self.place, self.is_begun, self.is_fresh = place, self.is_begun or place is not None, False
        self.doubted.pop(place, None)

    @property
    def number(self) -> int | None:
        """Of the open photo in the order, from 1."""
        return None if self.place is None else int(np.flatnonzero(self.order == self.place)[0]) + 1

    def ahead(self, done: Collection[int]) -> list[int]:
        """The other places that are not done, from the open one or the front on; after them those passed by before."""
        others = np.roll(self.order, 0 if self.is_fresh else -(self.number or 0)).tolist()
        left = [place for place in others if place not in done and place != self.place]
        return sorted(left, key=self.skipped.__contains__)

    def preceding(self) -> int | None:
        """The place before the open one, whatever was done there."""
        number = len(self.order) + 1 if self.number is None else self.number
        return int(self.order[number - 2]) if number > 1 else None

    def states(self, saved: Collection[str], edited: Collection[str]) -> str:
        """One letter a photo, by place. saved, edited: sha256 of what is saved, and of what has unsaved decisions."""
        letters = []
        for place in range(len(self.album)):
            digest = self.album.digest(place)
            if place in self.album.problems:
                letters.append(FAILED)
            elif digest in edited:
                letters.append(EDITED)
            elif digest in saved:
                letters.append(DONE)
            else:
                letters.append(SKIPPED if place in self.skipped else UNTOUCHED)
        return "".join(letters)
