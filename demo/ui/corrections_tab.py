"""The Corrections tab: what was saved, as a table; downloads; deleting a row, and opening its image again."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

import gradio as gr

from demo.corrections import Corrections
from demo.errors import CorrectionsError, DemoError
from demo.rows import Correction
from demo.ui.panel import QUIET, Panel, asked

ROWS_A_PAGE = 50


class CorrectionsTab:
    """Built inside a gr.Tab; `value` is for the page to push when the tab is opened."""

    def __init__(self, corrections: Corrections) -> None:
        self.corrections = corrections
        self.table = Panel("corrections_table")
        self.table.turn(self._turn, None, self.table, **QUIET)
        self.table.remove(self._remove, None, self.table, **QUIET)

    def value(self, page: int = 0, message: str = "") -> dict[str, Any]:
        """One page of rows, the latest save first, and the totals of all."""
        try:
            rows = sorted(self.corrections.rows(), key=lambda row: row.saved_at, reverse=True)
        except CorrectionsError as error:
            rows, message = [], str(error)
        pages = max(1, -(-len(rows) // ROWS_A_PAGE))
        page = min(max(page, 0), pages - 1)
        return {
            "totals": _totals(rows),
            "page": page,
            "pages": pages,
            "rows": [_shown(row) for row in rows[page * ROWS_A_PAGE : (page + 1) * ROWS_A_PAGE]],
            "message": message or self.corrections.healed,
        }

    def _turn(self, event: gr.EventData) -> dict[str, Any]:
        return self.value(asked(event, "page", int))

    def _remove(self, event: gr.EventData) -> dict[str, Any]:
        page = asked(event, "page", int)
        try:
            self.corrections.delete(asked(event, "file_name", str), asked(event, "annotator", str))
        except DemoError as error:
            return self.value(page, str(error))
        return self.value(page)


def _totals(rows: list[Correction]) -> dict[str, int]:
    return {
        "images": len({PurePosixPath(row.file_name).stem for row in rows}),
        "added": sum(len(set(row.labels) - set(row.model_labels)) for row in rows),
        "rejected": sum(len(row.rejected) for row in rows),
    }


def _shown(row: Correction) -> dict[str, Any]:
    """What the table says of a row; `added` are labels that the model did not have active."""
    return {
        "file_name": row.file_name,
        "annotator": row.annotator,
        "picture": f"corrections/thumbnails/{PurePosixPath(row.file_name).name}",
        "labels": row.labels,
        "added": [name for name in row.labels if name not in row.model_labels],
        "rejected": row.rejected,
        "reviewed": row.reviewed,
        "held_out": row.is_valid,
        "saved_at": row.saved_at,
        "model": row.model,
    }
