"""The Tag tab: image, editor, filmstrip and examples laid out, and their events led to `.tagging` and `.queue`."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import gradio as gr

from demo.errors import DemoError
from demo.images import thumbnail
from demo.messages import Message
from demo.settings import TAGGING_AT_ONCE
from demo.ui.desk import Desk
from demo.ui.image_input import ImageInput
from demo.ui.panel import QUIET, Panel, asked
from demo.ui.queue import Queue
from demo.ui.tag_editor import Decisions, EditorState, Status, TagEditor
from demo.ui.tagging import Tagging, View
from demo.ui.why import Why
from demo.ui.words import i18n

Steps = Iterator[tuple]
SECONDS_BETWEEN_LOOKS = 1.0
EXAMPLE_PIXELS = 128


class TagTab:
    """Built inside a gr.Tab; `first_value`, `look_again` and `tags_again` are for the page to call.

    desk: the visitor's `Desk`.
    """

    def __init__(self, tagging: Tagging, desk: gr.State) -> None:
        self.tagging, self.queue, self.desk = tagging, Queue(tagging), desk
        with gr.Row(elem_id="desk"):
            with gr.Column(elem_id="picture", min_width=0):
                self.image = ImageInput(
                    sources=["upload", "clipboard", "webcam"],
                    label=i18n("Image"),
                    show_label=False,
                    elem_id="image",
                    buttons=["fullscreen"],
                    placeholder=i18n("Drop or paste an image\n- or -\nclick to choose one"),
                )
                self.facts = Panel("facts")
                Why(tagging, desk)
            with gr.Column(elem_id="editor", min_width=0):
                self.editor = TagEditor()
            with gr.Column(elem_id="queue", min_width=0):
                self.strip = Panel("filmstrip", ["key_map", "filmstrip_bring"])
                self.examples = Panel("examples")
        self.timer = gr.Timer(SECONDS_BETWEEN_LOOKS, active=False)
        self.shown = [self.image, self.editor, self.facts, self.strip, self.timer, self.desk]
        self._listen()

    def _listen(self) -> None:
        for event, handler, inputs in (
            (self.image.input, self._upload, [self.image]),
            (self.examples.pick, self._pick, []),
            (self.strip.pick, self._pick, []),
            (self.strip.enter, self._enter, []),
            (self.strip.brought, self._brought, []),
            (self.strip.close, self._close, []),
        ):
            event(handler, [*inputs, self.editor, self.desk], self.shown, concurrency_limit=TAGGING_AT_ONCE, **QUIET)
        keys = {**QUIET, "trigger_mode": "multiple"}  # gradio drops what is pressed before the one before has ended
        for event, handler in ((self.editor.next, self._next), (self.editor.previous, self._previous)):
            event(handler, [self.editor, self.desk], self.shown, concurrency_limit=TAGGING_AT_ONCE, **keys)
        self.editor.save(self._save, [self.editor, self.desk], [self.editor, self.strip, self.desk], **keys)
        for event, handler in (
            (self.strip.bring, self._bring),
            (self.strip.sort, self._sort),
            (self.strip.cancel, self._cancel),
            (self.strip.go_on, self._go_on),
            (self.timer.tick, self._look),
        ):
            event(handler, self.desk, [self.strip, self.timer, self.desk], **QUIET)

    def _upload(self, data: bytes | None, decisions: Decisions | None, desk: Desk) -> Steps:
        yield self._busy(desk)
        view = self.tagging.open(data, decisions, desk)
        is_shown = not isinstance(view.editor, Status) and view.picture and view.picture[0] is data
        yield self._all(view._replace(picture=gr.skip()) if is_shown else view, desk)

    def _pick(self, decisions: Decisions | None, desk: Desk, event: gr.EventData) -> Steps:
        place = asked(event, "index", int)
        yield from self._open(place, desk, lambda: self.queue.open_place(place, decisions, desk))

    def _next(self, decisions: Decisions | None, desk: Desk, event: gr.EventData) -> Steps:
        yield from self._follow(decisions, desk, asked(event, "turn", int))

    def _follow(self, decisions: Decisions | None, desk: Desk, turn: int = 0) -> Steps:
        try:
            place = self.queue.following(desk, decisions is not None)
        except DemoError as error:
            yield self._all(self.tagging.refused(error, decisions), desk, turn)
            return
        yield from self._open(place, desk, lambda: self.queue.go_on(place, decisions, desk), turn)

    def _previous(self, decisions: Decisions | None, desk: Desk, event: gr.EventData) -> Steps:
        place, turn = self.tagging.walk_of(desk).preceding(), asked(event, "turn", int)
        yield from self._open(place, desk, lambda: self.queue.go_back(decisions, desk), turn)

    def _enter(self, decisions: Decisions | None, desk: Desk, event: gr.EventData) -> Steps:
        """The page was loaded, in a browser that may have brought photos before."""
        with suppress(DemoError):
            self.queue.enter(desk, asked(event, "token", str))
        yield from self._first(decisions, desk)

    def _brought(self, decisions: Decisions | None, desk: Desk, event: gr.EventData) -> Steps:
        """Photos have arrived, and maybe more are on their way; the first that is not done is opened."""
        with suppress(DemoError):
            self.queue.start(desk)
            if asked(event, "more", bool) and self.queue.following(desk, decisions is not None) is None:
                yield self._unchanged(desk)
                return
        yield from self._first(decisions, desk)

    def _first(self, decisions: Decisions | None, desk: Desk) -> Steps:
        walk = self.tagging.walk_of(desk)
        if walk.is_begun or not self.tagging.is_queue(desk):
            yield self._unchanged(desk)
        else:
            yield from self._follow(decisions, desk)

    def _close(self, decisions: Decisions | None, desk: Desk) -> Steps:
        view = self.tagging.nothing(decisions, desk)
        self.queue.close(desk)
        yield self._all(view, desk)

    def _bring(self, desk: Desk) -> tuple:
        self.queue.bring(desk)
        return self._look(desk)

    def _sort(self, desk: Desk, event: gr.EventData) -> tuple:
        try:
            self.queue.sort(desk, asked(event, "by", str))
        except DemoError as error:
            return self._look(desk, str(error))
        return self._look(desk)

    def _cancel(self, desk: Desk) -> tuple:
        self.queue.cancel(desk)
        return self._look(desk)

    def _go_on(self, desk: Desk) -> tuple:
        try:
            self.queue.start(desk)
        except DemoError as error:
            return self._look(desk, str(error))
        return self._look(desk)

    def _look(self, desk: Desk, message: str = "") -> tuple:
        """The filmstrip, and its timer, which ticks while photos are tagged."""
        with suppress(DemoError):  # its model could not be loaded again, which opening an image tells
            self.queue.sort_again(desk)
        value = self.queue.value(desk, message)
        return value, gr.Timer(active=bool(value.get("running"))), desk

    def _open(self, place: int | None, desk: Desk, view: Callable[[], View], turn: int = 0) -> Steps:
        """Open something; what is not tagged yet takes a moment."""
        if not self.queue.is_tagged(place, desk):
            yield self._busy(desk)
        yield self._all(view(), desk, turn)

    def _all(self, view: View, desk: Desk, turn: int = 0) -> tuple:
        return view.picture, _editor(view, turn), view.facts, *self._look(desk)

    def _unchanged(self, desk: Desk) -> tuple:
        """What is open stays, of maybe more photos."""
        return gr.skip(), gr.skip(), {"keep": True, "of": len(self.tagging.walk_of(desk).album)}, *self._look(desk)

    def _busy(self, desk: Desk) -> tuple:
        return gr.skip(), Status("busy", Message("Tagging…")), {"keep": True}, gr.skip(), gr.skip(), desk

    def _save(self, decisions: Decisions | None, desk: Desk) -> tuple:
        status = self.tagging.save(decisions, desk)
        return status, self.queue.value(desk), desk

    def first_value(self, desk: Desk) -> tuple[dict[str, Any], dict[str, Any]]:
        """Examples, and what the filmstrip starts with."""
        album, pictures = self.tagging.own_album, []
        for photo in [] if self.tagging.is_queue(desk) else album.photos:
            name = photo.name.rpartition(".")[0].replace("-", " ")
            small = thumbnail(photo.read(self.tagging.settings.max_upload_bytes), EXAMPLE_PIXELS)
            pictures.append({"name": name, "src": f"data:image/jpeg;base64,{base64.b64encode(small).decode()}"})
        return {"examples": pictures}, self.queue.value(desk)

    def tags_again(self, swapped: Any) -> None:
        """After that event another model may be in use: what is open is tagged by it, and the decisions stay."""
        inputs = [self.editor, self.desk]
        swapped.then(self._tag_again, inputs, self.shown, concurrency_limit=TAGGING_AT_ONCE, **QUIET)

    def look_again(self, decisions: Decisions | None, desk: Desk) -> tuple:
        """The tab was opened again: what was saved elsewhere meanwhile is shown."""
        view = self.tagging.look_again(decisions, desk)
        return (gr.skip(), *((_editor(view), view.facts) if view else (gr.skip(), gr.skip())), *self._look(desk))

    def _tag_again(self, decisions: Decisions | None, desk: Desk) -> Steps:
        with suppress(DemoError):  # its model could not be loaded again, which opening an image tells
            self.queue.start(desk)
        if decisions is None or not self.tagging.is_of_another_model(decisions, desk):
            yield gr.skip(), gr.skip(), gr.skip(), *self._look(desk)
            return
        yield self._busy(desk)
        view = self.tagging.tag_again(decisions, desk)
        if view is None:
            yield gr.skip(), Status("note", ""), {"keep": True}, *self._look(desk)
        else:
            yield gr.skip(), _editor(view), view.facts, *self._look(desk)


def _editor(view: View, turn: int = 0) -> EditorState | Status | None:
    """What the editor gets of a view, with the image's name and place, as the answer to that turn."""
    editor = view.editor or (Status("note", "", clear=True) if turn else None)
    if isinstance(editor, EditorState):
        place = view.facts["place"]
        editor = replace(editor, name=view.facts["name"], place=place and (place["number"], place["of"]))
    return editor and replace(editor, turn=turn)
