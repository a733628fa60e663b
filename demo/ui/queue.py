"""Behind the filmstrip: which photo comes next, how each one stands, and the photos that visitors bring.

One for the whole page; what belongs to one visitor is passed in as a `Desk`. Wiring is `demo.ui.tag_tab`.
"""

from __future__ import annotations

import base64
import time
from bisect import bisect_left
from typing import Any

import numpy as np

from demo import ordering
from demo.album import Album, Sheet
from demo.errors import BadInput, CorrectionsError, DemoError, ImageRejected
from demo.messages import Message
from demo.ui import visitor
from demo.ui.desk import Desk
from demo.ui.panel import revision
from demo.ui.tag_editor import Decisions
from demo.ui.tagging import Tagging, View
from demo.walk import Walk

ORDERS = ("given", "uncertain", "disagree", "rare", "random")
SECONDS_OF_READING = 1.0
"""For finding out which photo is not done, after the server was started again."""


class _Unreadable(Exception):
    """A photo that cannot be shown, and why; the model has no part in it."""

    def __init__(self, why: Message | ImageRejected) -> None:
        super().__init__(str(why))
        self.why = why


class Queue:
    def __init__(self, tagging: Tagging) -> None:
        self.tagging = tagging

    def open_place(self, place: int, decisions: Decisions | None, desk: Desk) -> View:
        """Open a photo of what the visitor works through; place counts from 0."""
        try:
            return self._opened(place, decisions, desk)
        except _Unreadable as error:
            return self.tagging.refused(error.why, decisions)
        except DemoError as error:
            return self.tagging.refused(error, decisions)

    def _opened(self, place: int, decisions: Decisions | None, desk: Desk) -> View:
        """Raises _Unreadable for what is wrong with the photo, a DemoError for anything else."""
        walk = self.tagging.walk_of(desk)
        if not 0 <= place < len(walk.album):
            raise _Unreadable(Message("There is no such photo."))
        name = walk.album.photos[place].name
        try:
            data = walk.album.read(place)
        except (OSError, ImageRejected) as error:
            why = str(error) if isinstance(error, ImageRejected) else f"{error.strerror}."
            raise _Unreadable(Message("{name} cannot be read. {why}", name=name, why=why)) from error
        try:
            return self.tagging.opened(data, decisions, desk, name, walk, place)
        except ImageRejected as error:
            raise _Unreadable(error) from error

    def following(self, desk: Desk, has_image: bool) -> int | None:
        """The place that Next leads to: in a queue one that is not done yet, among the examples the one after.

        Raises CorrectionsError where it cannot be known what is done.
        """
        walk = self.tagging.walk_of(desk)
        if self.tagging.is_queue(desk):
            return self._first_open(walk)
        place = (len(walk.album) if has_image else 0) if walk.place is None else walk.place + 1
        return place if place < len(walk.album) else None

    def is_tagged(self, place: int | None, desk: Desk) -> bool:
        """Whether a photo can be shown at once."""
        sheet = self._sheet(desk)
        return place is None or (sheet is not None and sheet.of(place) is not None)

    def go_on(self, place: int | None, decisions: Decisions | None, desk: Desk) -> View:
        """The photo that is `following`; one of a queue that cannot be read is passed by."""
        walk, has_image = self.tagging.walk_of(desk), decisions is not None
        try:
            while place is not None:
                left = walk.place
                try:
                    view = self._opened(place, decisions, desk)
                    walk.skipped |= set() if left is None else {left}
                    return view
                except _Unreadable as error:
                    if not self.tagging.is_queue(desk):
                        return self.tagging.refused(error.why, decisions)
                    why = error.why if isinstance(error.why, Message) else str(error.why)
                    walk.album.problems.setdefault(place, why)  # told in the strip
                place = self.following(desk, has_image)
            if self.tagging.is_queue(desk) and walk.place is not None and walk.place not in self._done(walk.album):
                return self.tagging.refused(Message("All other photos are done."), decisions)
        except DemoError as error:
            return self.tagging.refused(error, decisions)
        note = Message("All photos are done.") if self.tagging.is_queue(desk) else ""
        return self.tagging.nothing(decisions, desk, note)

    def go_back(self, decisions: Decisions | None, desk: Desk) -> View:
        """The photo before, whatever was done there."""
        place = self.tagging.walk_of(desk).preceding()
        if place is None:
            return self.tagging.refused(Message("This is the first photo."), decisions)
        return self.open_place(place, decisions, desk)

    def value(self, desk: Desk, message: str = "") -> dict[str, Any]:
        """All that the filmstrip shows."""
        value, walk = {"revision": revision(), "message": message}, self.tagging.walk_of(desk)
        album = walk.album
        if not self.tagging.is_queue(desk):
            return value | {"token": ""}
        sheet = self._sheet(desk)
        is_running = sheet is not None and sheet.is_running
        try:
            saved = self._saved(album)
        except CorrectionsError as error:
            saved, value["message"] = set(), str(error)
        return value | {
            "token": album.token,
            "own": album is not self.tagging.own_album,
            "states": walk.states(saved, desk.drafts.keys()),
            "order": None if walk.by == "given" else base64.b64encode(walk.order.astype("<i4")).decode(),
            "by": walk.by,
            "at": -1 if walk.place is None else walk.place,
            "tagged": sheet.done if sheet else len(album.problems),
            "running": is_running,
            "eta_seconds": sheet.eta_seconds if is_running else None,
            "problem": sheet.error if sheet else "",
            "problems": {str(place): why for place, why in list(album.problems.items())[:100]},
        }

    def enter(self, desk: Desk, token: str) -> None:
        """Go on with photos that this browser brought before, where they are still here; and tag what is not."""
        album = self.tagging.albums.get(token) if token else None
        if album not in (None, self.tagging.own_album, self.tagging.walk_of(desk).album):
            desk.walk = Walk(album)
        self.start(desk)

    def bring(self, desk: Desk) -> Album:
        """The album that takes what the visitor uploads."""
        walk = self.tagging.walk_of(desk)
        if walk.album is self.tagging.own_album:
            walk = desk.walk = Walk(self.tagging.albums.new())
        return walk.album

    def start(self, desk: Desk) -> None:
        """Tag in the background what the visitor's model has not tagged yet."""
        if self.tagging.is_queue(desk):
            tagger = self.tagging.models.get(desk.model)
            self.tagging.walk_of(desk).album.sheet(tagger).start(tagger)

    def cancel(self, desk: Desk) -> None:
        """Tag no further in the background; a photo that is opened is tagged then."""
        if sheet := self._sheet(desk):
            sheet.cancel()

    def sort(self, desk: Desk, by: str) -> None:
        """Go through the photos in another order. Raises BadInput for one that there is not."""
        walk, tagger = self.tagging.walk_of(desk), self.tagging.models.get(desk.model)
        album = walk.album
        if by not in ORDERS:
            raise BadInput(f"There is no order {by!r}.", next_step=f"Choose one of {', '.join(ORDERS)}.")
        if by in ("given", "random"):
            photos, seed = len(album), int.from_bytes(album.token.encode()[:6], "big")
            walk.sort(by, np.arange(photos) if by == "given" else ordering.shuffled(photos, seed))
            return
        scores, threshold = album.sheet(tagger).scores(), np.float32(tagger.checkpoint.threshold)
        if by == "disagree":
            ranks = ordering.contradicted(scores, threshold, self._decided(album, tagger.checkpoint.labels.positions))
        else:
            ranks = (ordering.uncertain if by == "uncertain" else ordering.rare)(scores, threshold)
        walk.sort(by, ordering.order(ranks))

    def close(self, desk: Desk) -> None:
        """Done with these photos: forget them. What was saved stays saved."""
        walk = self.tagging.walk_of(desk)
        if walk.album is not self.tagging.own_album:
            self.tagging.albums.close(walk.album.token)
            desk.walk = None

    def _sheet(self, desk: Desk) -> Sheet | None:
        """What the visitor's model of now has tagged of what they work through."""
        return self.tagging.walk_of(desk).album.sheet_of(self.tagging.models.identity(desk.model))

    def _first_open(self, walk: Walk) -> int | None:
        """The first place ahead that is not done; a photo that nobody read since the server was started is read for it.

        After `SECONDS_OF_READING` photos are not read one by one any more but, as if those that are done came
        first, halving what is left; where that finds all done, the rest is read too. None where really all are done.
        """

        def is_open(place: int) -> bool:
            return not self._is_saved(walk.album, place)

        ahead, end = iter(walk.ahead(self._done(walk.album))), time.monotonic() + SECONDS_OF_READING
        for place in ahead:
            if is_open(place):
                return place
            if time.monotonic() > end:
                break
        rest = list(ahead)
        found = bisect_left(rest, True, key=is_open)
        return next(filter(is_open, rest[found:] or rest), None)

    def _is_saved(self, album: Album, place: int) -> bool:
        try:
            digest = album.digest(place, read=True)
        except (OSError, ImageRejected):
            return False  # which opening it tells
        return bool(self.tagging.corrections.saved_of([digest], visitor.annotator()))

    def _done(self, album: Album) -> set[int]:
        """Places that need no more looking at: saved, or not to be read."""
        saved = self._saved(album)
        return {place for place in range(len(album)) if album.digest(place) in saved} | {*album.problems}

    def _saved(self, album: Album) -> set[str]:
        """Sha256 of the album's photos that are saved."""
        digests = (album.digest(place) for place in range(len(album)))
        return self.tagging.corrections.saved_of(filter(None, digests), visitor.annotator())

    def _decided(self, album: Album, positions: dict[str, int]) -> dict[int, tuple[list[int], list[int]]]:
        """By place, the positions of the labels that were confirmed and rejected on photos that are saved."""
        places = {look.digest: place for place, look in enumerate(album.looks) if look is not None}
        decided = {}
        for digest, row in self.tagging.corrections.rows_of(places, visitor.annotator()).items():
            absent = set(positions).difference(row.labels) if row.reviewed == "all" else row.rejected
            decided[places[digest]] = tuple(
                [positions[name] for name in names if name in positions] for names in (row.labels, absent)
            )
        return decided
