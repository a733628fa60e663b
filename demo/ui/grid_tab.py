"""The Grid tab: one label over all photos that are worked through, decided by click, key or in bulk, and saved.

The page asks (`look`, `choose`, `tick`, `save`), one request at a time, each with a number that comes back as `ask`.
Decisions live in the page until they are saved and carry what they belong to, so nothing is remembered here. What
follows from them is `demo.label_grid`.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from demo import label_grid, logs
from demo.album import Album, Sheet
from demo.corrections import Correction
from demo.errors import DemoError
from demo.label_grid import CONFIRMED, DIGEST_BYTES, NONE, REJECTED, Column, Decision, Said, Saving
from demo.messages import Message, joined
from demo.settings import MAX_GRID_DECISIONS, MAX_LABEL_CHARACTERS
from demo.tagger import Tagger
from demo.ui import visitor
from demo.ui.desk import Desk
from demo.ui.panel import QUIET, Panel, asked
from demo.ui.tagging import Tagging

SCRIPTS = ("key_map", "grid_model", "grid_labels", "grid_tiles", "grid_requests", "grid_keys")
NAMED = 5
"""Photos that a message names; of the others it gives the number."""


class GridTab:
    """Built inside a gr.Tab; `follow` is for the page to call. desk: the visitor's `Desk`."""

    def __init__(self, tagging: Tagging, desk: gr.State) -> None:
        self.tagging = tagging
        css = Path(__file__).with_name("grid.css").read_text(encoding="utf-8")
        self.panel = Panel("grid", SCRIPTS, css_template=css)
        quiet = {**QUIET, "trigger_mode": "multiple", "concurrency_limit": 4}
        for event, handler in (
            (self.panel.look, self._look),
            (self.panel.choose, self._choose),
            (self.panel.tick, self._tick),
            (self.panel.save, self._save),
        ):
            event(handler, desk, self.panel, **quiet)

    def follow(self, swapped: Any) -> None:
        """After that event another model may be in use, and the page looks again."""
        swapped.then(lambda: {"ask": 0, "kind": "stale"}, None, self.panel, **QUIET)

    def _look(self, desk: Desk, event: gr.EventData) -> dict[str, Any]:
        """Labels with how much there is to do for each, and one of them: the wanted one, else that with the most."""
        ask, wanted = asked(event, "ask", int), asked(event, "label", str)
        try:
            album, tagger, sheet, rows = self._now(desk)
            sheet.start(tagger)
            if not len(album):
                return {"ask": ask, "kind": "empty"}
            labels = tagger.checkpoint.labels
            names = label_grid.names(labels, rows)
            counts = label_grid.to_do(album, sheet, labels, _cuts(tagger), rows, cache(self.tagging.vocabulary))
            chosen = wanted if wanted in names else names[int(counts.argmax())]
            value = self._column(album, tagger, sheet, rows, chosen)
        except DemoError as error:
            return {"ask": ask, "kind": "error", "text": str(error)}
        return {"ask": ask, **value, "names": json.dumps(names), "to_do": _encode(counts, "<i4")}

    def _choose(self, desk: Desk, event: gr.EventData) -> dict[str, Any]:
        ask, label = asked(event, "ask", int), asked(event, "label", str)
        try:
            return {"ask": ask, **self._column(*self._now(desk), label)}
        except DemoError as error:
            return {"ask": ask, "kind": "error", "text": str(error)}

    def _tick(self, desk: Desk, event: gr.EventData) -> dict[str, Any]:
        """How far the tagging in the background is."""
        ask = asked(event, "ask", int)
        try:
            album, _, sheet, _ = self._now(desk, with_rows=False)
        except DemoError as error:
            return {"ask": ask, "kind": "error", "text": str(error)}
        return {"ask": ask, "kind": "progress", **_progress(album, sheet)}

    def _save(self, desk: Desk, event: gr.EventData) -> Iterator[dict[str, Any]]:
        """Parts that belong to one album and one label each; saved album by album, since a photo has one row."""
        ask = asked(event, "ask", int)
        try:
            parts = [_part(**part) for part in asked(event, "parts", list)]
            if sum(len(decisions) for _, decisions in parts) > MAX_GRID_DECISIONS:
                raise ValueError("more than the page can hold")
        except (TypeError, ValueError) as error:
            raise gr.Error("The page sent something unreadable. Reload it.", print_exception=False) from error
        done, texts, tried = 0, [], {}
        settings = self.tagging.settings
        annotator, address = visitor.annotator(), visitor.address(settings.on_space)
        for token in dict.fromkeys(token for token, _ in parts):
            decisions = [one for album, own in parts for one in own if album == token]
            album, saving, began = self.tagging.albums.get(token), Saving(), time.monotonic()
            photos = len({decision.place for decision in decisions})
            if why := visitor.kept_from_saving(settings, self.tagging.hourly, photos):
                logs.event("refused", "warning", kind="save")
                texts.append(why)
                tried[token] = []
                continue
            try:
                if album is None:
                    gone = Message("These photos were put away: nothing can be decided on them any more.")
                    texts.append(gone)
                    saving.tried = [decision.place for decision in decisions]
                else:
                    said = self._said(album, desk)
                    for saving in label_grid.save(album, said, self.tagging.corrections, decisions, annotator):
                        yield {"ask": ask, "kind": "saving", "done": done + saving.done}
                    self.tagging.own_curves.corrected(said.identity)
            except DemoError as error:
                logs.event("refused", "warning", kind=type(error).__name__)
                texts.append(str(error))
            self.tagging.hourly.give_back(address, photos - saving.rows)
            if saving.done:
                logs.event("correction_saved", count=saving.rows, seconds=time.monotonic() - began)
            done += saving.done
            tried[token] = saving.tried
            texts += _told(saving)
        text = Message.many(done, "Saved {count} decision.", "Saved {count} decisions.")
        text = text if done else Message("Nothing was saved.")
        state = "error" if texts else "saved"
        yield {"ask": ask, "kind": "saved", "tried": tried, "state": state, "text": joined([text, *texts])}

    def _now(self, desk: Desk, with_rows: bool = True) -> tuple[Album, Tagger, Sheet, dict[str, Correction]]:
        """What is worked through, the visitor's model, its scores, and the person's rows of the photos."""
        album = self.tagging.walk_of(desk).album
        tagger = self.tagging.models.get(desk.model)
        digests = [look.digest for look in list(album.looks) if look is not None] if with_rows else []
        rows = self.tagging.corrections.rows_of(digests, visitor.annotator()) if digests else {}
        return album, tagger, album.sheet(tagger), rows

    def _column(
        self, album: Album, tagger: Tagger, sheet: Sheet, rows: dict[str, Correction], label: str
    ) -> dict[str, Any]:
        labels = tagger.checkpoint.labels
        column = label_grid.column(album, sheet, labels, label, rows, cache(self.tagging.vocabulary))
        cuts = _cuts(tagger)
        position = labels.positions.get(label)
        return {
            "kind": "column",
            "album": album.token,
            "model": tagger.checkpoint.identity,
            "is_known": position is not None,
            "threshold": round(float(tagger.checkpoint.threshold if position is None else cuts[position]), 3),
            **_progress(album, sheet),
            **_sent(column, album),
        }

    def _said(self, album: Album, desk: Desk) -> Said:
        tagger = self.tagging.models.get(desk.model)
        checkpoint = tagger.checkpoint
        return Said(album.sheet(tagger), checkpoint.identity, checkpoint.labels, checkpoint.threshold)


def _cuts(tagger: Tagger) -> np.ndarray:
    """Where each label's threshold starts, (L,): its tuned one, else the recommended one."""
    checkpoint = tagger.checkpoint
    tuned = checkpoint.labels.thresholds or (None,) * len(checkpoint.labels)
    return np.array([checkpoint.threshold if own is None else own for own in tuned], np.float64)


def _progress(album: Album, sheet: Sheet) -> dict[str, Any]:
    return {
        "tagged": int(np.isfinite(sheet.scores(0)).sum()),
        "of": len(album),
        "unreadable": len(album.problems),
        "is_running": sheet.is_running,
        "problem": sheet.error,
    }


def _sent(column: Column, album: Album) -> dict[str, Any]:
    """A column as the page takes it; names as one string, arrays as base64."""
    return {
        "label": column.label,
        "photos": json.dumps([album.photos[place].name for place in column.places]),
        "places": _encode(column.places, "<i4"),
        "scores": _encode(column.scores, "<f4"),
        "marks": _encode(column.marks, "u1"),
        "digests": base64.b64encode(column.digests).decode("ascii"),
    }


def _part(album: str, label: str, slider: float, places: str, digests: str, marks: str) -> tuple[str, list[Decision]]:
    """Decisions on one label, checked. Raises TypeError or ValueError for what the page would not send."""
    if not all(isinstance(text, str) for text in (album, label)) or not 0 < len(label) <= MAX_LABEL_CHARACTERS:
        raise ValueError("a name is none")
    if isinstance(slider, bool) or not 0 <= slider <= 1:
        raise ValueError("the threshold is out of range")
    at, given = _decode(places, "<i4"), _decode(marks, "u1")
    seen = base64.b64decode(digests, validate=True)
    if len(at) != len(given) or len(seen) != len(at) * DIGEST_BYTES or len(np.unique(at)) != len(at):
        raise ValueError("lists of unequal length")
    if (at < 0).any() or not np.isin(given, (NONE, CONFIRMED, REJECTED)).all():
        raise ValueError("a place or decision is none")
    hexes = re.findall(f".{{{2 * DIGEST_BYTES}}}", seen.hex())
    decided = zip(at.tolist(), hexes, given.tolist(), strict=True)
    return album, [Decision(place, digest, label, mark, float(slider)) for place, digest, mark in decided]


def _told(saving: Saving) -> list[str]:
    """What a person has to know of decisions that were not saved."""
    texts = []
    if saving.replaced:
        names = _some(saving.replaced)
        texts.append(Message("Not saved, since the file was replaced after you looked at it: {names}.", names=names))
    if saving.left:
        texts.append(Message("Not saved, try again: {left}", left=_some(list(saving.left.values()))))
    return texts


def _some(names: list[str]) -> str:
    rest, some = len(names) - NAMED, joined(names[:NAMED], "{first}, {second}")
    return Message("{some} and {count} more", some=some, count=rest) if rest > 0 else some


def _encode(values: np.ndarray, kind: str) -> str:
    return base64.b64encode(values.astype(kind).tobytes()).decode("ascii")


def _decode(text: str, kind: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text, validate=True), kind)
