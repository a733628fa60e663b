"""A part of the page drawn by a script of its own from one JSON value: `NAME.html` and `NAME.js` in this folder.

A handler pushes a dict, its texts as `Message` where they are to be translated; the script draws it (labels and
messages as text only) and sends named events with data.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from demo.messages import for_page

QUIET = {"show_progress": "hidden", "api_visibility": "private"}
"""For every event of the page: no fading, and not an endpoint for programs."""

_revisions = itertools.count(time.time_ns() // 1000)  # on from there when the server is started again


class Panel(gr.HTML):
    """value: a dict for the script, or None before the first push. parts: scripts that the panel's own stands on."""

    def __init__(self, name: str, parts: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(
            html_template=_read(f"{name}.html"),
            js_on_load="".join(_read(f"{script}.js") for script in ("words", "panel", *parts, name)),
            apply_default_css=False,
            elem_classes=["panel", name.replace("_", "-")],
            **kwargs,
        )

    def postprocess(self, value: dict[str, Any] | None) -> dict[str, Any] | None:
        return None if value is None else {"revision": revision(), **for_page(value)}

    def preprocess(self, payload: Any) -> None:
        """What the page holds is never taken back: the data of an event says all."""


def revision() -> int:
    """Numbers a value, the newer the higher; the page shows none after a newer one.

    A handler whose value may be overtaken puts its own in before it looks at anything.
    """
    return next(_revisions)


def asked(event: gr.EventData, name: str, kind: type) -> Any:
    """One named value of an event's data. Raises gr.Error for what the page would not send."""
    value = event._data.get(name) if isinstance(event._data, dict) else None
    if not isinstance(value, kind):
        raise gr.Error("The page sent something unreadable. Reload it.", print_exception=False)
    return value


def _read(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")
