"""The Retrain tab: fine-tune on the corrections, watch it, compare, and put the new model to use or go back."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gradio as gr

from demo.corrections import Corrections
from demo.errors import DemoError
from demo.models import Models, name_of
from demo.retrain import Retraining, Run
from demo.ui.desk import Desk
from demo.ui.panel import QUIET, Panel

SECONDS_BETWEEN_LOOKS = 1.0
ENDINGS = {
    "failed": "The fine-tune failed.",
    "interrupted": "The fine-tune was cancelled. The model in use has not changed.",
}
VERDICTS = {
    "better": "The new model is better than the old one on the held-out images.",
    "same": "The new model does as well as the old one on the held-out images.",
    "worse": "The new model came out worse on the held-out images, so it is not offered. More corrections may help.",
    "unmeasured": "Too few held-out images to tell whether the new model is better. About one correction in five is "
    "held out: save more of them to find out.",
}


class RetrainTab:
    """Built inside a gr.Tab. `look` is for the page to call; after `self.swapped` the visitor's model has changed."""

    def __init__(self, models: Models, corrections: Corrections, retraining: Retraining, desk: gr.State) -> None:
        self.models, self.corrections, self.retraining = models, corrections, retraining
        self.panel = Panel("retrain")
        self.timer = gr.Timer(SECONDS_BETWEEN_LOOKS, active=False)
        shown = [self.panel, self.timer]
        self.panel.start(self._start, desk, shown, **QUIET)
        self.panel.cancel(self._cancel, desk, shown, **QUIET)
        self.timer.tick(self.look, desk, shown, **QUIET)
        self.swapped = [
            self.panel.use_model(self._use, desk, self.panel, **QUIET),
            self.panel.go_back(self._go_back, desk, self.panel, **QUIET),
        ]

    def value(self, desk: Desk, error: str = "") -> dict[str, Any]:
        """All that the panel shows."""
        run = self.retraining.status()
        totals = self._totals()
        return {
            "images": totals,
            "model": name_of(desk.model),
            "before": name_of(desk.before) if desk.before else None,
            "run": {key: value for key, value in asdict(run).items() if key not in ("metrics", "out")},
            "ending": " ".join(part for part in (ENDINGS.get(run.state), run.message) if part),
            "report": report(run) if run.state == "done" else None,
            "offer": _offer(run, desk),
            "error": error,
        }

    def look(self, desk: Desk) -> tuple:
        """The panel and its timer, which ticks only while a run goes on."""
        value = self.value(desk)
        return value, gr.Timer(active=value["run"]["state"] == "running")

    def _start(self, desk: Desk) -> tuple:
        try:
            self.retraining.start(self.corrections.csv_path, desk.model)
        except DemoError as error:
            return self.value(desk, str(error)), gr.Timer(active=self.retraining.status().state == "running")
        return self.look(desk)

    def _cancel(self, desk: Desk) -> tuple:
        self.retraining.cancel()
        return self.look(desk)

    def _use(self, desk: Desk) -> dict[str, Any]:
        run = self.retraining.status()
        return self._swap(desk, run.out if _offer(run, desk) else None)

    def _go_back(self, desk: Desk) -> dict[str, Any]:
        return self._swap(desk, desk.before)

    def _swap(self, desk: Desk, ref: str | None) -> dict[str, Any]:
        """Let this visitor tag with another model, once it is known to load."""
        if ref is None:
            return self.value(desk, "There is no such model.")
        try:
            self.models.get(ref)
        except DemoError as error:
            return self.value(desk, str(error))
        desk.choose(ref)
        return self.value(desk)

    def _totals(self) -> int:
        try:
            return self.corrections.totals()["images"]
        except DemoError:
            return 0


def _offer(run: Run, desk: Desk) -> bool:
    """Whether the last run's model may be put to use: done, not worse, and not in use already."""
    is_good = run.state == "done" and run.metrics.get("verdict") in ("better", "same", "unmeasured")
    return is_good and desk.model != run.out


def report(run: Run) -> dict[str, Any]:
    """The comparison of a finished run: one row of figures a model, all on the same images."""
    metrics = run.metrics
    rows = (("Old model", "old_model"), ("New model", "metrics"), ("Predict nothing", "predict_nothing"))
    verdict = metrics.get("verdict", "unmeasured")
    return {
        "rows": [{"name": name, "figures": metrics.get(key) or {}} for name, key in rows],
        "verdict": verdict,
        "words": VERDICTS.get(verdict, ""),
        "images": metrics.get("images", 0),
        "split": metrics.get("split", ""),
        "folder": os.path.relpath(run.out) if Path(run.out).is_relative_to(Path.cwd()) else run.out,
    }
