"""What the page says before the first save of what is kept and where, and later of what has arrived in the dataset."""

from __future__ import annotations

from typing import Any

import gradio as gr

from demo.errors import CorrectionsError
from demo.messages import Message
from demo.sync import Sync
from demo.ui.panel import QUIET, Panel

SECONDS_BETWEEN_LOOKS = 5.0


class Notice:
    """A line above everything, for the page to fill with `value` when it is loaded.

    sync: None where corrections stay on the server. has_strangers: people come whom no login tells apart.
    """

    def __init__(self, sync: Sync | None, has_strangers: bool) -> None:
        self.sync, self.has_strangers = sync, has_strangers
        self.panel = Panel("sync", elem_id="notice")

    def value(self) -> dict[str, Any]:
        kept = self._synced() if self.sync else self._kept()
        if not self.has_strangers:
            return {"told": kept}
        whoever = Message("Whoever reaches this page can download it, and sees an upload whose link they have.")
        return {"told": Message("{kept} {whoever}", kept=kept, whoever=whoever)}

    def _kept(self) -> Message:
        return Message(
            "What you save is kept on this server: the photo, your decisions, the time, and your name if you logged "
            "in, else a random id of your browser. Others get the photo without its place, camera and other metadata. "
            "You can delete your rows on the Corrections tab."
        )

    def _synced(self) -> Message:
        there, minutes = self.sync.there, self.sync.minutes
        if there.private is None:
            who = Message("the dataset {dataset} on the Hub", dataset=there.name)
        elif there.private:
            who = Message("the private dataset {dataset} on the Hub", dataset=there.name)
        else:
            who = Message("the dataset {dataset} on the Hub, which everybody can read", dataset=there.name)
        return Message(
            "What you save is kept: the photo, your decisions, the time, and your name if you logged in, else a random "
            "id of your browser. It goes to {who}, the photo without its place, camera and other metadata. You can "
            "delete your rows on the Corrections tab: within {minutes} min they leave the dataset, though not its "
            "history.",
            who=who,
            minutes=minutes,
        )


class SyncState:
    """A line on the Corrections tab, which looks again by itself while something waits."""

    def __init__(self, sync: Sync) -> None:
        self.sync, self.panel = sync, Panel("sync")
        self.timer = gr.Timer(SECONDS_BETWEEN_LOOKS, active=False)
        self.shown = [self.panel, self.timer]
        self.timer.tick(self.look, None, self.shown, **QUIET)

    def look(self) -> tuple[dict[str, Any], gr.Timer]:
        try:
            state = self.sync.state()
        except CorrectionsError:  # the table says it
            return {"told": ""}, gr.Timer(active=False)
        dataset, minutes = state.dataset, state.minutes
        if state.waiting:
            told = Message.many(
                state.waiting,
                "{count} change is saved here; it is synced with {dataset} within {minutes} min.",
                "{count} changes are saved here; they are synced with {dataset} within {minutes} min.",
                dataset=dataset,
                minutes=minutes,
            )
        elif state.synced_at:
            day, time = state.synced_at[:10], state.synced_at[11:16]
            told = Message(
                "Everything is synced with {dataset}, on {day} at {time} UTC.", dataset=dataset, day=day, time=time
            )
        else:
            told = Message("Looking at what {dataset} holds…", dataset=dataset)
        problem = Message("Saved here, but not synced: {why}", why=state.error) if state.error else ""
        return {"told": told, "problem": problem}, gr.Timer(active=bool(state.waiting or not state.synced_at))
