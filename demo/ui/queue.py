"""Behind the filmstrip: which photo comes next, how each one stands, and the photos that visitors bring.

One for the whole page; what belongs to one visitor is passed in as a `Desk`. Wiring is `demo.ui.tag_tab`.
"""

from __future__ import annotations

import base64
import time
from bisect import bisect_left
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any

import numpy as np

from demo import ordering
from demo.album import Album, Sheet
from demo.errors import BadInput, CorrectionsError, DemoError, ImageRejected
from demo.label_grid import Vocabularies
from demo.messages import Message, joined
from demo.rows import Correction, now
from demo.ui import visitor
from demo.ui.desk import Desk
from demo.ui.panel import revision
from demo.ui.tag_editor import Decisions, Status
from demo.ui.tagging import Tagging, View
from demo.walk import Walk

ORDERS = ("given", "uncertain", "disagree", "rare", "random")
SECONDS_OF_READING = 1.0
"""For finding out which photo is not done, after the server was started again."""
AHEAD = 2
"""Photos whose pictures the page fetches before they are opened."""
REASONS = 3
"""Why photos cannot be read, as many as are told beside the strip."""


class _Unreadable(Exception):
    """A photo that cannot be shown, and why; the model has no part in it. reason: without its name."""

    def __init__(self, why: Message | ImageRejected, reason: str = "") -> None:
        super().__init__(str(why))
        self.why, self.reason = why, reason or str(why)


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
            raise _Unreadable(Message("{name} cannot be read. {why}", name=name, why=why), why) from error
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
                    walk.album.problems.setdefault(place, error.reason)  # told in the strip
                place = self.following(desk, has_image)
            if not self.tagging.is_queue(desk):
                return self.tagging.nothing(decisions, desk)
            failed = len(walk.album.problems)
            unread = Message.many(failed, "{count} photo cannot be read.", "{count} photos cannot be read.")
            is_open = walk.place is not None and walk.place not in self._done(walk)
        except DemoError as error:
            return self.tagging.refused(error, decisions)
        if is_open:
            others = Message("All other photos are done.") if len(walk.album) - 1 > failed or not failed else ""
            return self.tagging.refused(joined([others, unread if failed else ""]), decisions)
        if len(walk.album) > failed:
            done = joined([Message("All photos are done."), unread if failed else ""])
            return self.tagging.nothing(decisions, desk, done)
        view = self.tagging.nothing(decisions, desk)
        return view._replace(editor=Status("error", unread, clear=True)) if failed else view

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
            "reasons": _reasons(album),
            "ahead": walk.ahead(self._done(walk, saved))[:AHEAD],
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
        walk = self.tagging.walk_of(desk)
        if by not in ORDERS:
            raise BadInput(f"There is no order {by!r}.", next_step=f"Choose one of {', '.join(ORDERS)}.")
        if by in ("given", "random"):
            photos, seed = len(walk.album), int.from_bytes(walk.album.token.encode()[:6], "big")
            walk.sort(by, np.arange(photos) if by == "given" else ordering.shuffled(photos, seed))
        else:
            walk.since = now()
            self._rank(desk, walk, by)

    def sort_again(self, desk: Desk) -> None:
        """Bring an order by rank up to date: when it lacks half of the scores or the last, or is another model's."""
        walk, sheet = self.tagging.walk_of(desk), self._sheet(desk)
        if walk.ranked is None or sheet is None:
            return
        model, had = walk.ranked
        if model != self.tagging.models.identity(desk.model) or had < sheet.done >= min(2 * had, len(walk.album)):
            self._rank(desk, walk, walk.by)

    def _rank(self, desk: Desk, walk: Walk, by: str) -> None:
        checkpoint = (tagger := self.tagging.models.get(desk.model)).checkpoint
        sheet = walk.album.sheet(tagger)
        ranked, doubted = (checkpoint.identity, sheet.done), {}
        scores, threshold = sheet.scores(), np.float32(checkpoint.threshold)
        if by == "disagree":
            rows = self._rows(walk.album)
            # what was saved on the way was decided with the contradiction in sight
            rows = {place: row for place, row in rows.items() if row.saved_at <= walk.since}
            decided = _decided(rows, checkpoint.labels.positions, cache(self.tagging.vocabulary))
            ranks = ordering.contradicted(scores, threshold, decided)
            doubted = {place: row.saved_at for place, row in rows.items() if ranks[place] < 0}
        else:
            ranks = (ordering.uncertain if by == "uncertain" else ordering.rare)(scores, threshold)
        walk.sort(by, ordering.order(ranks), doubted, ranked)

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
            return place in walk.doubted or not self._is_saved(walk.album, place)

        if walk.doubted:  # but what was saved again meanwhile, in the grid say
            rows = self._rows(walk.album, walk.doubted)
            walk.doubted = {
                place: at for place, at in walk.doubted.items() if place in rows and rows[place].saved_at == at
            }
        ahead, end = iter(walk.ahead(self._done(walk))), time.monotonic() + SECONDS_OF_READING
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

    def _done(self, walk: Walk, saved: set[str] | None = None) -> set[int]:
        """Places that need no more looking at: saved, as `_saved` gives them, or not to be read."""
        album, saved = walk.album, self._saved(walk.album) if saved is None else saved
        done = {place for place in range(len(album)) if album.digest(place) in saved}
        return (done - walk.doubted.keys()) | album.problems.keys()

    def _saved(self, album: Album) -> set[str]:
        """Sha256 of the album's photos that are saved."""
        digests = (album.digest(place) for place in range(len(album)))
        return self.tagging.corrections.saved_of(filter(None, digests), visitor.annotator())

    def _rows(self, album: Album, places: Collection[int] | None = None) -> dict[int, Correction]:
        """By place, the person's rows of those of the photos that have one; of all without places."""
        wanted = range(len(album)) if places is None else places
        looks = {look.digest: place for place in wanted if (look := album.looks[place]) is not None}
        rows = self.tagging.corrections.rows_of(looks, visitor.annotator())
        return {looks[digest]: row for digest, row in rows.items()}


def _decided(
    rows: Mapping[int, Correction], positions: Mapping[str, int], vocabularies: Vocabularies
) -> dict[int, tuple[list[int], list[int]]]:
    """By place, the positions of the labels that were confirmed and rejected."""
    decided = {}
    for place, row in rows.items():
        unnamed = vocabularies(row.model).difference(row.labels) if row.reviewed == "all" else ()
        absent = {*row.rejected, *unnamed}
        decided[place] = tuple(
            [positions[name] for name in names if name in positions] for names in (row.labels, absent)
        )
    return decided


def _reasons(album: Album) -> list[Message]:
    """Why photos cannot be read: what most of them have in common first, each with the first of them."""
    alike: dict[str, list[int]] = {}
    for place, why in sorted(album.problems.items()):
        alike.setdefault(why, []).append(place)
    texts = []
    for why, places in sorted(alike.items(), key=lambda one: -len(one[1]))[:REASONS]:
        name, more = album.photos[places[0]].name, len(places) - 1
        first = Message("{some} and {count} more", some=name, count=more) if more else name
        texts.append(Message("{name}: {why}", name=first, why=why))
    return texts
