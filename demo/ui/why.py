"""*Why?* on the Tag tab: what in the open image speaks for a label, as a map laid over it.

The script asks only while its switch is on, for the label that a person looks at; answers are kept by image, model and
label. The maps are made in `demo.heatmaps`.
"""

from __future__ import annotations

import base64
import io
import threading
from collections import OrderedDict
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from demo.errors import DemoError
from demo.heatmaps import Heatmap, Heatmaps
from demo.images import decode
from demo.messages import Message
from demo.settings import HEATMAPS_AT_ONCE, MAX_HEATMAPS
from demo.ui.desk import Desk
from demo.ui.panel import QUIET, Panel, asked
from demo.ui.tagging import Tagging

# From nothing to most: a veil of ink, then warmer and warmer light; red, green, blue, opacity
COLOURS = ((14, 12, 30, 0.68), (30, 16, 34, 0.5), (160, 48, 40, 0.36), (245, 120, 40, 0.36), (255, 205, 60, 0.46))
UNSEEN = (128, 128, 128, 0.85)


class Why:
    """Built below the image."""

    def __init__(self, tagging: Tagging, desk: gr.State) -> None:
        self.tagging, self.heatmaps = tagging, Heatmaps()
        self._answers: OrderedDict[tuple[str, str, str], dict[str, Any]] = OrderedDict()
        self._lock = threading.Lock()
        self.panel = Panel("why", ["key_map"])
        self.panel.ask(
            self._ask, desk, self.panel, trigger_mode="multiple", concurrency_limit=HEATMAPS_AT_ONCE, **QUIET
        )

    def _ask(self, desk: Desk, event: gr.EventData) -> dict[str, Any]:
        turn, label = asked(event, "turn", int), asked(event, "label", str)
        try:
            return {"turn": turn, **self._answer(label, desk)}
        except DemoError as error:
            return {"turn": turn, "none": str(error)}

    def _answer(self, label: str, desk: Desk) -> dict[str, Any]:
        opened = self.tagging.open_images.get(desk.image)
        tagger = self.tagging.models.get(desk.model)
        names = tagger.checkpoint.labels.names
        if opened is None or label not in names:
            unknown = Message("The model does not know this label.")
            return {"none": unknown if opened else Message("Open the image again.")}
        key = desk.image, tagger.checkpoint.identity, label
        with self._lock:
            if key in self._answers:
                self._answers.move_to_end(key)
                return self._answers[key]
        limit = self.tagging.settings.max_upload_bytes
        found = self.heatmaps.of(tagger, desk.image, lambda: decode(opened.data, limit), names.index(label))
        answer = {
            "cut": not found.seen.all(),
            "src": f"data:image/png;base64,{base64.b64encode(painted(found)).decode()}",
        }
        if not found.values.any():
            answer = {"none": Message("Nothing in this image speaks for it.")}
        with self._lock:
            self._answers[key] = answer
            if len(self._answers) > MAX_HEATMAPS:
                self._answers.popitem(last=False)
        return answer


def painted(heatmap: Heatmap) -> bytes:
    """A PNG to lay over the photo; the square root of a map, since the eye is to see small shares too."""
    stops = np.linspace(0, 1, len(COLOURS))
    channels = [np.interp(np.sqrt(heatmap.values), stops, values) for values in zip(*COLOURS, strict=True)]
    pixels = np.where(heatmap.seen[..., None], np.stack(channels, -1), UNSEEN) * (1, 1, 1, 255)
    target = io.BytesIO()
    Image.fromarray(pixels.round().astype(np.uint8)).save(target, "PNG")
    return target.getvalue()
