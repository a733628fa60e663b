"""The model box in the header: what this visitor tags with, what they could load, and the load while it goes on.

A load runs in a thread of its own (`demo.models`); what waits for it here takes no thread, so nobody who tags waits
for it. The choice and what was used lately stay in the visitor's browser.
"""

from __future__ import annotations

import asyncio
import os
from asyncio import to_thread
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import gradio as gr

from demo import hub
from demo.errors import BadInput, DemoError
from demo.messages import Message, joined
from demo.models import Load, Models, name_of, ref_of
from demo.settings import EMBEDDED_CHECKPOINT, MAX_REF_CHARACTERS
from demo.ui.desk import Desk
from demo.ui.first_look import arriving, first_look
from demo.ui.panel import QUIET, Panel, asked

SECONDS_BETWEEN_LOOKS = 0.25
MAX_RECENT = 5


def _drawings(labels: int, size: int) -> Message:
    return Message("drawings, anime · {labels} labels · {size} MB", labels=labels, size=size)


def _photos(labels: int, size: int) -> Message:
    return Message("photos · {labels} labels, one to an image · {size} MB", labels=labels, size=size)


WELL_KNOWN = (  # sizes are of the fp32 weights in decimal megabytes
    ("SmilingWolf/wd-vit-tagger-v3", _drawings(10861, 378)),
    ("SmilingWolf/wd-swinv2-tagger-v3", _drawings(10861, 392)),
    ("SmilingWolf/wd-vit-large-tagger-v3", _drawings(10861, 1260)),
    ("animetimm/caformer_b36.dbv4-full", Message("{model} · gated", model=_drawings(12476, 536))),
    ("google/vit-base-patch16-224", _photos(1000, 346)),
    ("timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k", _photos(1000, 23)),
)
SINGLE_LABEL = Message(
    "This model was trained to choose one label an image: its scores share a total of 1 and are not independent, so "
    "a second label on an image scores low even where it is right."
)


class ModelBox:
    """Built inside the header. After `swapped`, and after `enter`, the visitor's model may be another one."""

    def __init__(self, models: Models, desk: gr.State) -> None:
        self.models = models
        self.panel = Panel("model_box")
        self.choice = gr.BrowserState({}, storage_key="tagloop-model", secret="tagloop")
        self.shown = [self.panel, self.choice]
        inputs = [desk, self.choice]
        self.swapped = self.panel.load_model(self._load, inputs, self.shown, concurrency_limit=None, **QUIET)
        self.panel.look_again(self.value, inputs, self.panel, **QUIET)
        self.panel.cancel_load(self._cancel, desk, None, **QUIET)

    def value(self, desk: Desk, choice: Any, error: str = "") -> dict[str, Any]:
        """All that the box shows while nothing is loaded. May read a model again, so it is not for the event loop."""
        try:
            tagger = self.models.get(desk.model)
        except DemoError as gone:
            tagger, error = self.models.own, joined([str(gone), Message("The server's own model is in use instead.")])
            desk.choose(ref_of(tagger))
        checkpoint, settings = tagger.checkpoint, self.models.settings
        allowed = settings.allow_models
        free = allowed is None or any("/" not in name for name in allowed)
        hint = Message("owner/name on the Hub") if settings.is_public else Message("Folder or owner/name")
        device = {"device": str(tagger.device), "precision": tagger.precision}
        return {
            "name": name_of(desk.model),
            "title": checkpoint.identity,
            "where": Message("{count} labels · {device} · {precision}", count=len(checkpoint.labels), **device),
            "look": first_look(checkpoint),
            "warning": SINGLE_LABEL if checkpoint.single_label else "",
            "suggestions": self._suggestions(_recent(choice)),
            "free": free,
            "hint": hint if free else Message("Choose another model"),
            "error": error,
        }

    def swapped_elsewhere(self, desk: Desk, choice: Any) -> tuple:
        """The visitor's model was changed by another part of the page."""
        return self.value(desk, choice), {"model": desk.chosen, "recent": _recent(choice)}

    async def enter(self, desk: Desk, choice: Any) -> AsyncIterator[tuple]:
        """The page was loaded: go on with the model that this visitor used before."""
        yield await to_thread(self.value, desk, choice), gr.skip()
        ref = choice.get("model") if isinstance(choice, dict) else None
        if isinstance(ref, str) and ref != desk.model:
            async for shown in self._switch(ref[:MAX_REF_CHARACTERS], desk, choice):
                yield shown

    async def _load(self, desk: Desk, choice: Any, event: gr.EventData) -> AsyncIterator[tuple]:
        async for shown in self._switch(asked(event, "ref", str).strip()[:MAX_REF_CHARACTERS], desk, choice):
            yield shown

    def _cancel(self, desk: Desk) -> None:
        desk.wanted = ""

    async def _switch(self, ref: str, desk: Desk, choice: Any) -> AsyncIterator[tuple]:
        """Load a model for this visitor; they tag with the one before until it is there, and if it fails."""
        desk.wanted, error = ref, ""
        try:
            load = self.models.load(ref)
            waiter = asyncio.wrap_future(load.future)
            try:
                while not waiter.done() and desk.wanted == ref:
                    yield {"loading": _loading(load, ref)}, gr.skip()
                    await asyncio.wait([waiter], timeout=SECONDS_BETWEEN_LOOKS)
                if desk.wanted == ref:
                    desk.choose(ref_of(waiter.result()))
                    recent = [ref, *(other for other in _recent(choice) if other != ref)]
                    choice = {"model": desk.chosen, "recent": recent[:MAX_RECENT]}
            finally:
                waiter.cancel()
                self.models.leave(load)
        except DemoError as failed:
            error = str(failed)
        except Exception:
            fault = Message("A fault of TagLoop's own kept it from loading: see the log.")
            yield await to_thread(self.value, desk, choice, fault), gr.skip()
            raise
        yield await to_thread(self.value, desk, choice, error), choice

    def _suggestions(self, recent: list[str]) -> list[dict[str, str]]:
        """What may be loaded here: ref, name, a note, and the group it is listed under."""
        models = self.models
        own, embedded = ref_of(models.own), str(EMBEDDED_CHECKPOINT)
        notes, here, hub_models = dict(WELL_KNOWN), Message("This server"), Message("On the Hub")
        named = [name for name in models.settings.allow_models or () if "/" in name]
        listed = [
            *([(own, Message("the server’s own"), here)] if own != embedded else []),
            (embedded, Message("photos · 61 labels · 11 MB · comes with TagLoop"), here),
            *((ref, notes.get(ref, ""), Message("Used lately")) for ref in recent),
            *((run, Message("a fine-tune"), Message("Runs")) for run in models.runs()),
            *((ref, note, hub_models) for ref, note in WELL_KNOWN),
            *((ref, "", hub_models) for ref in named),
        ]
        found: dict[str, dict[str, str]] = {}
        for ref, note, group in listed:
            key = str(Path(ref).absolute()) if not hub.is_repo(ref) or Path(ref).is_dir() else ref
            try:
                models.check(ref)
            except BadInput:
                continue
            name = name_of(key) if key == embedded else _short(key)
            found.setdefault(key, {"ref": ref, "name": name, "note": note, "group": group})
        return list(found.values())


def _loading(load: Load, ref: str) -> dict[str, Any]:
    step = load.step
    is_asking = step.folder is None and hub.is_repo(load.ref)
    stage = Message("Asking the Hub…") if is_asking else Message("Reading the weights…")
    done, total = (step.done, step.total) if step.is_download else (0, 0)
    look = arriving(step.folder)
    return {"ref": ref, "name": _short(load.ref), "stage": stage, "done": done, "total": total, "look": look}


def _recent(choice: Any) -> list[str]:
    """The refs used lately, as far as what the browser kept can be believed."""
    kept = choice.get("recent") if isinstance(choice, dict) else None
    return (
        [ref for ref in kept[:MAX_RECENT] if isinstance(ref, str) and len(ref) <= MAX_REF_CHARACTERS]
        if isinstance(kept, list)
        else []
    )


def _short(ref: str) -> str:
    """A folder below the working directory by its path from there, anything else as it is."""
    path = Path(ref)
    return os.path.relpath(path) if path.is_absolute() and path.is_relative_to(Path.cwd()) else ref
