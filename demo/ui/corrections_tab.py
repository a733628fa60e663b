"""The Corrections tab: what was saved, as a table; downloads; deleting a row; and how the model fares by label."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

import gradio as gr

from demo import logs
from demo.accounts import Rights
from demo.corrections import Corrections
from demo.errors import CorrectionsError, DemoError
from demo.rows import Correction
from demo.settings import MAX_NEW_LABEL_CHARACTERS
from demo.statistics import LabelFigures, Statistics, Together
from demo.sync import Sync
from demo.ui import visitor
from demo.ui.panel import QUIET, Panel, asked
from demo.ui.sync_view import SyncState

ROWS_A_PAGE = 50
LABELS_SHOWN, LABELS_MORE = 8, 40


class CorrectionsTab:
    """Built inside a gr.Tab; `look` fills `shown`, for the page to do when the tab is opened."""

    def __init__(self, corrections: Corrections, sync: Sync | None = None) -> None:
        self.corrections, self.statistics, self.sync = corrections, Statistics(corrections), sync
        self.sync_state = sync and SyncState(sync)
        with gr.Row(elem_id="review"):
            self.table = Panel("corrections_table")
            self.labels = Panel("label_figures")
        self.shown = [self.table, self.labels]
        self.table.turn(self._turn, None, self.table, **QUIET)
        removed = self.table.remove(self._remove, None, self.shown, **QUIET)
        if self.sync_state:
            removed.then(self.sync_state.look, None, self.sync_state.shown, **QUIET)
        self.labels.find(self._find, None, self.labels, trigger_mode="always_last", **QUIET)

    def look(self, page: int = 0, message: str = "") -> tuple[dict[str, Any], dict[str, Any]]:
        """What both panels show."""
        return self._rows(page, message), self._labels()

    def _rows(self, page: int, message: str = "") -> dict[str, Any]:
        """One page of rows, the latest save first, and the totals of all."""
        try:
            totals = self.statistics.totals()
            pages = max(1, -(-totals["rows"] // ROWS_A_PAGE))
            page = min(max(page, 0), pages - 1)
            rows = self.statistics.latest(page * ROWS_A_PAGE, ROWS_A_PAGE)
        except CorrectionsError as error:
            totals, pages, page, rows, message = {"images": 0, "added": 0, "rejected": 0}, 1, 0, [], str(error)
        return {
            "totals": totals,
            "page": page,
            "pages": pages,
            "rows": [_shown(row, self.sync, visitor.annotator()) for row in rows],
            "message": message or self.corrections.healed,
        }

    def _labels(self, text: str = "", count: int = LABELS_SHOWN) -> dict[str, Any]:
        """The labels to look at first, of those with `text` in their names."""
        try:
            labels, found = self.statistics.labels(text, count)
            together = self.statistics.together()
        except CorrectionsError:  # the table says it
            labels, found, together = [], 0, Together((), [])
        return {
            "text": text,
            "labels": [_figures(label) for label in labels],
            "found": found,
            "more": LABELS_MORE if found > count and count < LABELS_MORE else None,
            "together": together._asdict(),
        }

    def _turn(self, event: gr.EventData) -> dict[str, Any]:
        return self._rows(asked(event, "page", int))

    def _find(self, event: gr.EventData) -> dict[str, Any]:
        text, count = asked(event, "text", str), asked(event, "count", int)
        return self._labels(text[:MAX_NEW_LABEL_CHARACTERS], LABELS_MORE if count > LABELS_SHOWN else LABELS_SHOWN)

    def _remove(self, event: gr.EventData) -> tuple[dict[str, Any], dict[str, Any]]:
        page, whose, own = asked(event, "page", int), asked(event, "annotator", str), visitor.annotator()
        if why := Rights.kept_from_deleting(whose, own):
            return self.look(page, why)
        try:
            self.corrections.delete(asked(event, "file_name", str), whose)
        except DemoError as error:
            logs.event("refused", "warning", kind=type(error).__name__)
            return self.look(page, str(error))
        logs.event("correction_deleted", count=1)
        return self.look(page)


def _figures(label: LabelFigures) -> dict[str, Any]:
    """What a line of the label list says."""
    return {
        "name": label.name,
        "confirmed": label.confirmed,
        "added": label.added,
        "rejected": label.rejected,
        "false_alarms": label.false_alarms,
        "error_rate": label.error_rate,
        "often_with": label.often_with,
    }


def _shown(row: Correction, sync: Sync | None, own: str) -> dict[str, Any]:
    """What the table says of a row; `added` are labels that the model did not have active. own: the visitor's name."""
    return {
        "file_name": row.file_name,
        "annotator": row.annotator,
        "is_yours": bool(own) and row.annotator == own,
        "may_go": not Rights.kept_from_deleting(row.annotator, own),
        "picture": f"corrections/thumbnails/{PurePosixPath(row.file_name).name}",
        "labels": row.labels,
        "added": [name for name in row.labels if name not in row.model_labels],
        "rejected": row.rejected,
        "reviewed": row.reviewed,
        "held_out": row.is_valid,
        "saved_at": row.saved_at,
        "is_synced": sync and sync.is_synced(row),
        "model": row.model,
    }
