"""The Tag tab: image, editor and examples laid out, and their events led to `demo.ui.tagging`."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import gradio as gr

from demo.ui.desk import Desk
from demo.ui.image_input import ImageInput
from demo.ui.panel import QUIET, Panel, asked
from demo.ui.tag_editor import Decisions, Status, TagEditor
from demo.ui.tagging import Tagging

Steps = Iterator[tuple]
TAGGING_AT_ONCE = 4
"""Of each kind of event; one that has to wait until its model is loaded again does not keep the others waiting."""


class TagTab:
    """Built inside a gr.Tab; `open_first` and `tags_again` are for the page to call. desk: the visitor's `Desk`."""

    def __init__(self, tagging: Tagging, desk: gr.State) -> None:
        self.tagging, self.desk = tagging, desk
        with gr.Row(elem_id="desk"):
            with gr.Column(elem_id="picture", min_width=0):
                self.image = ImageInput(
                    sources=["upload", "clipboard", "webcam"],
                    label="Image",
                    show_label=False,
                    elem_id="image",
                    buttons=["fullscreen"],
                    placeholder="Drop or paste an image\n- or -\nclick to choose one",
                )
                self.facts = Panel("facts")
            with gr.Column(elem_id="editor", min_width=0):
                self.editor = TagEditor()
            with gr.Column(elem_id="examples", min_width=0, visible=bool(tagging.examples)):
                self.examples = Panel("examples")
        self.shown = [self.image, self.editor, self.facts, self.desk]
        self._listen()

    def _listen(self) -> None:
        for event, handler, inputs in (
            (self.image.input, self._upload, [self.image]),
            (self.examples.pick, self._pick, []),
            (self.editor.next, self._next, []),
        ):
            event(handler, [*inputs, self.editor, self.desk], self.shown, concurrency_limit=TAGGING_AT_ONCE, **QUIET)
        self.editor.save(self._save, [self.editor, self.desk], [self.editor, self.desk], **QUIET)

    def _upload(self, data: bytes | None, decisions: Decisions | None, desk: Desk) -> Steps:
        yield self._busy(desk)
        view = self.tagging.open_upload(data, decisions, desk)
        is_shown = not isinstance(view.editor, Status) and view.picture and view.picture[0] is data
        yield (gr.skip() if is_shown else view.picture, view.editor, view.facts, desk)

    def _pick(self, decisions: Decisions | None, desk: Desk, event: gr.EventData) -> Steps:
        place = asked(event, "index", int)
        yield self._busy(desk)
        yield (*self.tagging.open_place(place, decisions, desk), desk)

    def _next(self, decisions: Decisions | None, desk: Desk) -> Steps:
        yield self._busy(desk)
        yield (*self.tagging.go_on(decisions, desk), desk)

    def _busy(self, desk: Desk) -> tuple:
        return gr.skip(), Status("busy", "Tagging…"), {"keep": True}, desk

    def _save(self, decisions: Decisions | None, desk: Desk) -> tuple:
        return self.tagging.save(decisions, desk), desk

    def open_first(self, desk: Desk) -> tuple:
        """The page was loaded: examples, and the first image where a folder is worked through."""
        return (*self.tagging.open_first(desk), desk)

    def examples_value(self) -> dict[str, Any]:
        pictures = [
            {"name": name, "src": f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"}
            for name, data in self.tagging.examples
        ]
        return {"examples": pictures}

    def tags_again(self, swapped: Any) -> None:
        """After that event another model may be in use: what is open is tagged by it, and the decisions stay."""
        inputs = [self.editor, self.desk]
        swapped.then(self._tag_again, inputs, self.shown, concurrency_limit=TAGGING_AT_ONCE, **QUIET)

    def _tag_again(self, decisions: Decisions | None, desk: Desk) -> Steps:
        if decisions is None or not self.tagging.is_of_another_model(decisions, desk):
            yield gr.skip(), gr.skip(), gr.skip(), gr.skip()
            return
        yield self._busy(desk)
        view = self.tagging.tag_again(decisions, desk)
        if view is None:
            yield gr.skip(), Status("note", ""), {"keep": True}, desk
        else:
            yield gr.skip(), view.editor, view.facts, desk
