"""The Retrain tab: fine-tune on the corrections, watch it, compare, and put the new model to use or go back."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

import gradio as gr

from demo.comparison import summary, warnings
from demo.corrections import Corrections
from demo.errors import BadInput, DemoError
from demo.messages import Message, joined
from demo.models import Models, name_of, ref_of
from demo.report import REPORT, judged_on, small_print
from demo.retrain import Retraining, Run
from demo.rows import OWN_IMAGE
from demo.settings import MAX_WAITING_RUNS
from demo.ui import visitor
from demo.ui.desk import Desk
from demo.ui.panel import QUIET, Panel, asked

SECONDS_BETWEEN_LOOKS = 1.0
SHOWN_SUSPECTS = 6
ENDINGS = {
    "failed": Message("The fine-tune failed."),
    "interrupted": Message("The fine-tune was cancelled. The model in use has not changed."),
}
GOES_ON = Message("Go on takes it up where it stopped.")
IS_STALE = Message(
    "The corrections have changed since it began, so it cannot go on: start anew to learn from all of them."
)
FIGURES = {
    "map": "mAP",
    "micro_f1": Message("Micro F1"),
    "macro_f1": Message("Macro F1"),
    "micro_precision": Message("Precision"),
    "micro_recall": Message("Recall"),
    "accuracy": Message("Label accuracy"),
}


class RetrainTab:
    """Built inside a gr.Tab. `look` is for the page to call; after `self.swapped` the visitor's model has changed."""

    def __init__(self, models: Models, corrections: Corrections, retraining: Retraining, desk: gr.State) -> None:
        self.models, self.corrections, self.retraining = models, corrections, retraining
        self.panel = Panel("retrain")
        self.timer = gr.Timer(SECONDS_BETWEEN_LOOKS, active=False)
        shown = [self.panel, self.timer]
        for event, handler in (
            (self.panel.start, self._start),
            (self.panel.resume, self._resume),
            (self.panel.forget, self._forget),
            (self.panel.cancel, self._cancel),
            (self.timer.tick, self.look),
        ):
            event(handler, desk, shown, **QUIET)
        self.swapped = [
            event(handler, desk, self.panel, **QUIET)
            for event, handler in (
                (self.panel.use_model, self._use),
                (self.panel.go_back, self._go_back),
                (self.panel.use_for_all, self._use_for_all),
                (self.panel.go_back_for_all, self._go_back_for_all),
            )
        ]

    def value(self, desk: Desk, error: str = "") -> dict[str, Any]:
        """All that the panel shows."""
        run, models = self.retraining.status(), self.models
        ended = run.ended
        is_public, own, may_choose = models.settings.is_public, ref_of(models.own), self._refusal() is None
        server = {"model": name_of(own), "before": models.former and name_of(models.former)}
        return {
            "images": self._totals(),
            "limit": MAX_WAITING_RUNS,
            "model": name_of(desk.model),
            "before": name_of(desk.before) if desk.before and desk.before != desk.model else None,
            "server": server if may_choose else None,
            "run": _shown(run),
            "ended": _shown(ended),
            "ending": _ending(ended),
            "result": result(ended, is_public) if ended.state == "done" else None,
            "offer": _is_good(ended),
            "in_use": {"mine": desk.model == ended.out, "everybodys": own == ended.out},
            "error": error,
        }

    def look(self, desk: Desk, error: str = "") -> tuple:
        """The panel and its timer, which ticks only while something runs or waits."""
        value = self.value(desk, error)
        return value, gr.Timer(active=value["run"]["state"] == "running" or value["run"]["waiting"] > 0)

    def _start(self, desk: Desk) -> tuple:
        try:
            self._check()
            self.retraining.start(self.corrections.csv_path, desk.model)
        except DemoError as error:
            return self.look(desk, str(error))
        return self.look(desk)

    def _resume(self, desk: Desk, event: gr.EventData) -> tuple:
        try:
            self._check()
            self.retraining.resume(asked(event, "name", str))
        except DemoError as error:
            return self.look(desk, str(error))
        return self.look(desk)

    def _forget(self, desk: Desk) -> tuple:
        if why := self._refusal():
            return self.look(desk, why)
        self.retraining.forget_waiting()
        return self.look(desk)

    def _cancel(self, desk: Desk, event: gr.EventData) -> tuple:
        if why := self._refusal():
            return self.look(desk, why)
        self.retraining.cancel(asked(event, "name", str))
        return self.look(desk)

    def _use(self, desk: Desk, event: gr.EventData) -> dict[str, Any]:
        return self._swap(desk, self._offered(asked(event, "name", str)))

    def _go_back(self, desk: Desk) -> dict[str, Any]:
        return self._swap(desk, desk.before)

    def _use_for_all(self, desk: Desk, event: gr.EventData) -> dict[str, Any]:
        return self._swap(desk, self._offered(asked(event, "name", str)), for_all=True)

    def _go_back_for_all(self, desk: Desk) -> dict[str, Any]:
        return self._swap(desk, self.models.former, for_all=True)

    def _swap(self, desk: Desk, ref: str | None, for_all: bool = False) -> dict[str, Any]:
        """Let this visitor tag with another model, or all who follow the server's own, once it is known to load."""
        try:
            if for_all:
                self._check()
            if ref is None:
                raise BadInput("There is no such model.", "What is offered has changed since.")
            if for_all:
                self.models.make_own(ref)
            else:
                self.models.get(ref)
        except DemoError as error:
            return self.value(desk, str(error))
        desk.choose(ref)
        return self.value(desk)

    def _refusal(self) -> Message | None:
        """Why the visitor may not do what concerns everybody; None for who may."""
        return self.models.settings.rights.kept_from_retraining(visitor.login())

    def _check(self) -> None:
        if why := self._refusal():
            raise BadInput(why)

    def _offered(self, name: str) -> str | None:
        """The model of the run that ended last, if that is the one that the person saw and may be put to use."""
        ended = self.retraining.status().ended
        return ended.out if ended.name == name and _is_good(ended) else None

    def _totals(self) -> int:
        try:
            return self.corrections.totals()["images"]
        except DemoError:
            return 0


def _is_good(run: Run) -> bool:
    return run.state == "done" and run.metrics.get("verdict") in ("better", "same", "unmeasured")


def _shown(run: Run) -> dict[str, Any]:
    hidden = ("metrics", "out", "model", "before")
    return {key: value for key, value in vars(run).items() if key not in hidden} | {"name": run.name}


def _ending(run: Run) -> str:
    """How a run ended that came to nothing, and how to go on; empty for others."""
    if run.state not in ENDINGS:
        return ""
    next_step = IS_STALE if run.is_stale else GOES_ON if run.state == "interrupted" else ""
    return joined([ENDINGS[run.state], run.message, next_step])


def result(run: Run, is_public: bool) -> dict[str, Any]:
    """What the panel shows of a finished run's `metrics.json`; on a public host there is no link to its report."""
    metrics, comparison = run.metrics, run.metrics["comparison"]
    found, cells = metrics["suspects"]["found"], metrics["suspects"]["cells"]
    listed = f"{found} decided cells ("  # the suspects have a list of their own
    said = {str(line): line for line in (summary(comparison), *warnings(comparison))}  # the file has them in English
    return {
        "verdict": metrics["verdict"],
        "summary": said.get(metrics["summary"], metrics["summary"]),
        "warnings": [said.get(line, line) for line in metrics["warnings"] if not line.startswith(listed)],
        "rows": [
            {
                "title": title,
                "nothing": comparison["predict_nothing"][key],
                "old": comparison["old"][key],
                "new": comparison["new"][key],
                "change": comparison["difference"].get(key),
            }
            for key, title in FIGURES.items()
        ],
        "on": joined([judged_on(comparison), small_print(comparison), Message("Small figures: the 95 % interval.")]),
        "suspects": {"found": found, "cells": [_suspect(cell) for cell in cells[:SHOWN_SUSPECTS]]},
        "report": None if is_public else f"runs/{quote(run.name)}/{REPORT}",
        "folder": "" if is_public else Message("in {folder}", folder=_short(run.out)),
    }


def _suspect(cell: dict[str, Any]) -> dict[str, Any]:
    """A cell that looks wrong, with the address of its thumbnail."""
    file_name = cell["file_name"]
    is_own = OWN_IMAGE.fullmatch(file_name)
    picture = f"corrections/thumbnails/{PurePosixPath(file_name).name}" if is_own else None
    return {key: cell[key] for key in ("label", "said", "score", "file_name")} | {"picture": picture}


def _short(folder: str) -> str:
    return os.path.relpath(folder) if Path(folder).is_relative_to(Path.cwd()) else folder
